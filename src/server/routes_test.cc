#include "server/routes.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "server/dialect.h"
#include "server/openai_dialect.h"

namespace odmoe::server {
namespace {

const RouteTable kRoutes(all_dialects());

std::string canonical_path(std::string_view path) { return kRoutes.canonical(path); }
std::string allowed_methods(std::string_view path) { return kRoutes.allowed_methods(path); }
std::string_view route_label(std::string_view path) { return kRoutes.label(path); }

TEST(Routes, AreFoundWhereverClientsLookForThem) {
  for (const char* path :
       {"/v1/chat/completions", "/chat/completions", "/v1/chat/completions/", "//v1/chat/completions",
        "/v1//chat/completions//", "/v1/v1/chat/completions", "/chat/completions/"}) {
    EXPECT_EQ(canonical_path(path), "/v1/chat/completions") << path;
  }
  for (const char* path : {"/health", "/health/", "/v1/health", "//health", "/v1/v1/health/"}) {
    EXPECT_EQ(canonical_path(path), "/health") << path;
  }
  for (const char* route : {"/metrics", "/tokenize", "/detokenize"}) {
    EXPECT_EQ(canonical_path(std::string("/v1") + route + "/"), route);
  }
  for (const char* bare : {"/models", "/completions", "/stats", "/events"}) {
    EXPECT_EQ(canonical_path(bare), std::string("/v1") + bare);
  }
  EXPECT_EQ(canonical_path("/"), "/");
  EXPECT_EQ(canonical_path("//"), "/");
  EXPECT_EQ(canonical_path("/models/org/name/"), "/v1/models/org/name");
  EXPECT_EQ(canonical_path("/v1/models/v1"), "/v1/models/v1");
  EXPECT_EQ(canonical_path("/v1/models/"), "/v1/models");
}

TEST(Routes, WhatIsNotThereStaysWhatItIs) {
  for (const char* path : {"/v1", "/v1/", "/v1/v1/v1/models", "/v2/models", "/v1/../health", "/healthz",
                           "/v1/chat", "/health/x", "*", "/V1/models", "/v1/modelsx"}) {
    EXPECT_EQ(canonical_path(path), path);
    EXPECT_EQ(allowed_methods(canonical_path(path)), "") << path;
    EXPECT_EQ(route_label(canonical_path(path)), "other");
  }
}

TEST(Routes, HaveOneNameInTheFigures) {
  EXPECT_EQ(route_label("/v1/models/demo"), "/v1/models");
  EXPECT_EQ(route_label(canonical_path("/completions/")), "/v1/completions");
  EXPECT_EQ(allowed_methods("/v1/models/demo"), "GET, HEAD, OPTIONS");
  EXPECT_EQ(allowed_methods("/tokenize"), "POST, OPTIONS");
}

TEST(Routes, SayWhoAnswersAndWhatForWhom) {
  const Route* chat = kRoutes.find("/v1/chat/completions", "POST");
  ASSERT_NE(chat, nullptr);
  EXPECT_EQ(chat->handler, Route::Handler::kGenerate);
  EXPECT_TRUE(chat->takes_body && chat->needs_key && chat->needs_model);
  EXPECT_EQ(chat->dialect, &kRoutes.default_dialect());
  EXPECT_EQ(kRoutes.find("/v1/chat/completions", "GET"), nullptr);
  const Route* health = kRoutes.find("/health", "HEAD");
  ASSERT_NE(health, nullptr);
  EXPECT_FALSE(health->takes_body || health->needs_key || health->needs_model);
  EXPECT_EQ(kRoutes.find("/v1/models/org/name", "GET"), kRoutes.find("/v1/models", "GET"));
  EXPECT_EQ(kRoutes.find("/health/x", "GET"), nullptr);
}

// Addresses of several methods each.
class Twice final : public Dialect {
 public:
  std::span<const Route> routes() const override { return kOwn; }
  ApiResult<ParsedRequest> parse(const Route&, std::string_view, int32_t, RequestWork&) const override {
    return std::unexpected(from_status(404));
  }
  ApiResult<Body> answer(const Route&, PlainRequest) const override { return Body(); }
  Body error(const ApiError&) const override { return {}; }

 private:
  static constexpr std::array<Route, 3> kOwn = {
      Route{.path = "/v1/files", .has_names = true},
      Route{.method = Route::Method::kPost, .path = "/v1/files", .takes_body = true},
      Route{.method = Route::Method::kDelete, .path = "/v1/files", .has_names = true}};
};

TEST(Routes, OfOnePathMayBeSeveralMethodsAndErrorsAreInTheWordsOfTheRoutesDialect) {
  const auto openai = std::make_shared<OpenAiDialect>();
  const auto twice = std::make_shared<Twice>();
  const RouteTable table({openai, twice});
  EXPECT_EQ(table.allowed_methods("/v1/files"), "GET, HEAD, POST, DELETE, OPTIONS");
  EXPECT_EQ(table.allowed_methods("/v1/files/x"), "GET, HEAD, DELETE, OPTIONS");
  EXPECT_EQ(table.find("/v1/files/x", "DELETE")->method, Route::Method::kDelete);
  EXPECT_TRUE(table.find("/v1/files", "POST")->takes_body);
  EXPECT_EQ(table.canonical("/files/x"), "/v1/files/x");
  EXPECT_EQ(&table.dialect_of("/v1/files/x", "POST"), twice.get());
  EXPECT_EQ(&table.dialect_of("/v1/models", "GET"), openai.get());
  EXPECT_EQ(&table.dialect_of("/nowhere", "GET"), openai.get());
}

}  // namespace
}  // namespace odmoe::server
