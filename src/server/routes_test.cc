#include "server/routes.h"

#include <gtest/gtest.h>

namespace odmoe::server {
namespace {

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

}  // namespace
}  // namespace odmoe::server
