// What a dialect must bring, shown by one that speaks in lines of text.
#include "server/dialect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "odmoe/format.h"
#include "server/dialects.h"
#include "server/served_model.h"
#include "server/server.h"

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Answers: "+ TEXT" for what is said, in a stream each time, then "= TOKENS FINISH".
class ToyWriter final : public AnswerWriter {
 public:
  std::string_view stream_type() const override { return "text/x-toy"; }
  std::string_view whole_type() const override { return "text/plain"; }
  bool begin(std::span<const AnswerChoice> choices, const BodySink& sink) override {
    return sink(odmoe::format("! {}\n", choices.size()));
  }
  bool write(const AnswerEvent& event, const BodySink& sink) override {
    if (event.finish) finish_ = *event.finish;
    return event.content.empty() || sink(line(event.content));
  }
  bool end(const AnswerUsage& usage, const BodySink& sink) override { return sink(last(usage, finish_)); }
  bool fail(const ApiError& error, const BodySink& sink) override { return sink(words(error)); }
  bool write_whole(std::span<const AnswerChoice> choices, const AnswerUsage& usage,
                   const BodySink& sink) const override {
    return sink(line(choices[0].content)) && sink(last(usage, choices[0].finish));
  }
  static std::string words(const ApiError& error) {
    return odmoe::format("- {} {}\n", error.status, error.message);
  }

 private:
  static std::string line(const std::string& text) {
    return "+ " + nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  static std::string last(const AnswerUsage& usage, AnswerFinish finish) {
    return odmoe::format("= {} {}\n", usage.generated, finish == AnswerFinish::kLength ? "length" : "stop");
  }
  AnswerFinish finish_ = AnswerFinish::kStop;
};

// Requests: "TOKENS whole TEXT" or "TOKENS stream TEXT".
class ToyDialect final : public Dialect {
 public:
  std::span<const Route> routes() const override { return kRoutes; }

  ApiResult<ParsedRequest> parse(const Route& /*route*/, std::string_view body, int32_t /*n_vocab*/,
                                 RequestWork& work) const override {
    ODMOE_RETURN_IF_ERROR(work.take(2 * body.size()));
    CompletionRequest request;
    const auto [end, error] = std::from_chars(body.data(), body.data() + body.size(), request.max_tokens);
    if (error != std::errc()) return bad_request("tokens", "say how many tokens");
    body.remove_prefix(static_cast<size_t>(end - body.data()));
    request.stream = body.starts_with(" stream ");
    request.sampling.temperature = 0;
    request.ignore_eos = true;
    request.prompts.emplace_back(std::string(body.substr(std::min(body.size(), body.find(' ', 1) + 1))));
    return ParsedRequest{.request = std::move(request),
                         .writer = [](const AnswerStart&) { return std::make_unique<ToyWriter>(); }};
  }
  ApiResult<Body> answer(const Route& /*route*/, PlainRequest request) const override {
    return Body{
        .type = "text/plain",
        .text = odmoe::format("{} {}\n", request.model_id, request.model != nullptr ? "is there" : "comes")};
  }
  Body error(const ApiError& error) const override {
    return {.type = "text/plain", .text = ToyWriter::words(error)};
  }

 private:
  static constexpr std::array<Route, 2> kRoutes = {
      Route{.path = "/toy", .needs_key = false, .needs_model = false},
      Route{.method = Route::Method::kPost,
            .path = "/toy",
            .takes_body = true,
            .handler = Route::Handler::kGenerate}};
};

class DialectTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.port = 0;
    options_.model_id = "demo";
    dialects_.push_back(std::make_shared<ToyDialect>());
  }
  void listen() {
    server_ = Server::listen(options_, dialects_).value();
    client_ = std::make_unique<httplib::Client>("127.0.0.1", server_->port());
  }
  void serve() {
    const EngineOptions options{.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                                .memory = parse_memory_budget("50%").value(),
                                .context = 8192,
                                .threads = 1,
                                .chunk = 64,
                                .sessions = 1};
    engine_ = Engine::open(options).value();
    ASSERT_TRUE(server_->serve(*engine_, options).has_value());
  }
  httplib::Result ask(const std::string& path, const std::string& body) {
    return client_->Post(path, body, "text/plain");
  }

  ServerOptions options_;
  Dialects dialects_ = all_dialects();
  std::unique_ptr<Engine> engine_;  // outlives the server
  std::unique_ptr<Server> server_;
  std::unique_ptr<httplib::Client> client_;
};

TEST_F(DialectTest, SaysInItsWordsWhatAnotherSaysInIts) {
  listen();
  serve();
  const auto openai = ask("/v1/completions",
                          R"({"prompt":"KING RICHARD:","max_tokens":12,"temperature":0,"ignore_eos":true})");
  ASSERT_EQ(openai->status, 200) << openai->body;
  const std::string text = nlohmann::json::parse(openai->body)["choices"][0]["text"];

  const auto whole = ask("/toy", "12 whole KING RICHARD:");
  ASSERT_EQ(whole->status, 200) << whole->body;
  EXPECT_EQ(whole->get_header_value("Content-Type"), "text/plain");
  EXPECT_EQ(whole->body, "+ " + nlohmann::json(text).dump() + "\n= 12 length\n");

  const auto stream = ask("/toy/", "12 stream KING RICHARD:");
  EXPECT_EQ(stream->status, 200);
  EXPECT_EQ(stream->get_header_value("Content-Type"), "text/x-toy");
  EXPECT_THAT(stream->body, StartsWith("! 1\n+ "));
  std::string streamed;
  int pieces = 0;
  std::istringstream lines(stream->body);
  std::string line, last;
  while (std::getline(lines, line)) {
    if (line.starts_with("+ ")) {
      streamed += nlohmann::json::parse(line.substr(2)).get<std::string>();
      ++pieces;
    }
    last = line;
  }
  EXPECT_EQ(streamed, text);
  EXPECT_GT(pieces, 3);
  EXPECT_EQ(last, "= 12 length");
  EXPECT_THAT(client_->Get("/metrics")->body, HasSubstr(R"(route="/toy",status="200"} 2)"));
}

TEST_F(DialectTest, RoutesThatGenerateNothingAreItsOwnToAnswer) {
  listen();
  EXPECT_EQ(client_->Get("/v1/toy")->body, "demo comes\n");
  EXPECT_EQ(ask("/toy", "1 whole x")->body, "- 503 the model is loading\n");
  serve();
  EXPECT_EQ(client_->Get("/toy")->body, "demo is there\n");
}

TEST_F(DialectTest, ErrorsOfTheServerAreToldInTheWordsOfTheRoute) {
  options_.api_keys = {"secret"};
  options_.max_body_bytes = 2048;
  options_.timeout = std::chrono::seconds(1);
  listen();
  serve();
  const auto no_key = ask("/toy", "1 whole x");
  EXPECT_EQ(no_key->status, 401);
  EXPECT_EQ(no_key->get_header_value("WWW-Authenticate"), "Bearer");
  EXPECT_EQ(no_key->get_header_value("Content-Type"), "text/plain");
  EXPECT_THAT(no_key->body, StartsWith("- 401 "));
  EXPECT_THAT(ask("/v1/completions", "{}")->body, HasSubstr(R"("type":"authentication_error")"));

  client_->set_bearer_token_auth("secret");
  EXPECT_EQ(ask("/toy", "some")->body, "- 400 say how many tokens\n");
  EXPECT_EQ(ask("/toy", "1 whole ")->body, "- 400 the prompt is empty: give at least one token of text\n");
  EXPECT_THAT(ask("/toy", std::string(3000, 'x'))->body, StartsWith("- 413 "));
  const auto put = client_->Put("/toy", "", "text/plain");
  EXPECT_EQ(put->status, 405);
  EXPECT_EQ(put->get_header_value("Allow"), "GET, HEAD, POST, OPTIONS");
  EXPECT_THAT(put->body, StartsWith("- 405 "));

  const auto late = ask("/toy", "30000 whole KING");
  EXPECT_EQ(late->status, 504);
  EXPECT_THAT(late->body, StartsWith("- 504 "));
  const auto late_stream = ask("/toy", "30000 stream KING");
  EXPECT_EQ(late_stream->status, 200);
  EXPECT_THAT(late_stream->body, HasSubstr("\n- 504 "));
  EXPECT_THAT(late_stream->body, ::testing::Not(HasSubstr("\n= ")));

  server_->drain(std::chrono::milliseconds(0));
  const auto ended = ask("/toy", "1 whole x");
  EXPECT_EQ(ended->body, "- 503 the server is shutting down\n");
  EXPECT_EQ(ended->get_header_value("Retry-After"), "10");
}

TEST_F(DialectTest, WhatIsNobodysIsToldInTheWordsOfTheFirst) {
  listen();
  const std::string long_path = "/" + std::string(9000, 'x');
  EXPECT_THAT(client_->Get("/nowhere")->body, HasSubstr(R"("code":"not_found")"));
  EXPECT_THAT(client_->Get(long_path)->body, HasSubstr(R"("type":"invalid_request_error")"));
  dialects_ = {std::make_shared<ToyDialect>()};
  listen();
  EXPECT_THAT(client_->Get("/nowhere")->body, StartsWith("- 404 "));
  const auto too_long = client_->Get(long_path);
  EXPECT_EQ(too_long->get_header_value("Content-Type"), "text/plain");
  EXPECT_THAT(too_long->body, StartsWith("- 414 "));
}

}  // namespace
}  // namespace odmoe::server
