// The live page's feed and `odmoe top`, as those see them who listen: over sockets and on a terminal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/process.h"
#include "odmoe/format.h"
#include "server/server_process.h"

namespace odmoe::testing::live_test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

std::string get(std::string_view path, std::string_view headers = "") {
  return odmoe::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, headers);
}

// What comes until `text` has come, or the other side closes.
std::string read_until(const Connection& connection, std::string_view text) {
  std::string all;
  while (!all.contains(text)) {
    const std::string some = connection.read_some();
    if (some.empty()) break;
    all += some;
  }
  return all;
}

// Whether the last of the events knows of tokens that were written.
bool counts_tokens(const std::string& events) {
  constexpr std::string_view kTokens = "\"tokens\":";
  const size_t at = events.rfind(kTokens);
  return at != events.npos && events[at + kTokens.size()] != '0';
}

std::string url_of(const ServerProcess& server) {
  return odmoe::format("http://127.0.0.1:{}", server.port());
}

TEST(LivePage, IsThereForEverybodyAndMayRunNothingButItsOwnScript) {
  const ServerProcess server({"--api-key", "secret"});
  httplib::Client client("127.0.0.1", server.port());
  const auto page = client.Get("/");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  EXPECT_THAT(page->body, StartsWith("<!doctype html>"));
  EXPECT_THAT(page->get_header_value("Content-Type"), StartsWith("text/html"));
  EXPECT_THAT(page->get_header_value("Content-Security-Policy"),
              StartsWith("default-src 'none'; script-src 'sha256-"));
  EXPECT_THAT(page->body, Not(HasSubstr("demo.gguf")));
  EXPECT_EQ(client.Get("/v1/events")->status, 401);
  EXPECT_EQ(client.Get("/page.css")->status, 401);
  EXPECT_EQ(client.Get("/page.css", {{"x-api-key", "secret"}})->status, 404);
}

TEST(LiveEvents, TellTheModelAndThenWhatChanges) {
  const ServerProcess server({});
  const Connection connection(server.port());
  ASSERT_TRUE(connection.send(get("/v1/events")));
  const std::string begin = read_until(connection, "event: state");
  EXPECT_THAT(begin, HasSubstr("Content-Type: text/event-stream"));
  EXPECT_THAT(begin, ContainsRegex("event: model\ndata: .\"id\":\"demo\""));
  httplib::Client client("127.0.0.1", server.port());
  ASSERT_TRUE(client.Post("/v1/completions", R"({"prompt":"KING","max_tokens":8})", "application/json"));
  std::string after;
  while (!counts_tokens(after)) {
    const std::string some = read_until(connection, "\n\n");
    ASSERT_NE(some, "") << after;
    after += some;
  }
  EXPECT_THAT(after, ContainsRegex("\"map\":\"[0-9a-z]*[RSEF]"));
}

TEST(LiveEvents, AreForAFewAtATime) {
  const ServerProcess server({"--max-connections", "6"});
  std::vector<std::unique_ptr<Connection>> subscribers;
  for (int i = 0; i < 3; ++i) {
    subscribers.push_back(std::make_unique<Connection>(server.port()));
    ASSERT_TRUE(subscribers.back()->send(get("/v1/events")));
    EXPECT_THAT(read_until(*subscribers.back(), "event: state"), StartsWith("HTTP/1.1 200"));
  }
  httplib::Client client("127.0.0.1", server.port());
  const auto refused = client.Get("/v1/events");
  EXPECT_EQ(refused->status, 429);
  EXPECT_EQ(Json::parse(refused->body)["error"]["code"], "too_many_listeners");
  subscribers.pop_back();
  std::string answer;
  for (int i = 0; i < 200 && !answer.starts_with("HTTP/1.1 200"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const Connection again(server.port());
    ASSERT_TRUE(again.send(get("/v1/events")));
    answer = again.read_some();
  }
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200")) << "who has gone makes room";
}

TEST(LiveEvents, EndWithTheServer) {
  ServerProcess server({});
  const Connection connection(server.port());
  ASSERT_TRUE(connection.send(get("/v1/events")));
  read_until(connection, "event: state");
  server.signal(SIGTERM);
  EXPECT_THAT(connection.read_all(), HasSubstr("event: end"));
  EXPECT_EQ(server.wait(), 0);
}

TEST(Top, OnceWritesTheFiguresAndLeaves) {
  const ServerProcess server({"--api-key", "secret"});
  const Outcome outcome = odmoe({"top", url_of(server), "--once", "--api-key", "secret"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* line :
       {"model       demo  qwen2moe  ", "sessions    0 of 2, 0 waiting\n", "layer 5     aaa"}) {
    EXPECT_THAT(outcome.out, HasSubstr(line));
  }
  EXPECT_EQ(odmoe({"top", url_of(server), "--api-key", "secret"}).out.substr(0, 12),
            outcome.out.substr(0, 12))
      << "a pipe gets the same";
}

TEST(Top, SaysWhatIsWrong) {
  const ServerProcess server({"--api-key", "secret"});
  const Outcome keyless = odmoe({"top", url_of(server), "--once"});
  EXPECT_EQ(keyless.exit_code, 2);
  EXPECT_THAT(keyless.err, HasSubstr("needs a key"));
  const Outcome elsewhere = odmoe({"top", url_of(server) + "/prefix", "--once", "--api-key", "secret"});
  EXPECT_EQ(elsewhere.exit_code, 2);
  EXPECT_THAT(elsewhere.err, HasSubstr("no odmoe with live figures answers"));
  const Outcome nobody = odmoe({"top", "127.0.0.1:1", "--once"});
  EXPECT_EQ(nobody.exit_code, 1);
  EXPECT_THAT(nobody.err, HasSubstr("cannot reach http://127.0.0.1:1"));
  EXPECT_EQ(odmoe({"top", "ftp://x"}).exit_code, 2);
  EXPECT_EQ(odmoe({"top", "http://"}).exit_code, 2);
}

TEST(Top, ShowsTheSameOnATerminalUntilAKeyEndsIt) {
  const ServerProcess server({});
  for (const char* key : {"q", "\x03", "\x1b"}) {
    Terminal terminal({"top", url_of(server)});
    ASSERT_TRUE(terminal.wait_for("\033[?1049h")) << terminal.screen();
    ASSERT_TRUE(terminal.wait_for("hit rate")) << terminal.screen();
    ASSERT_TRUE(terminal.wait_for("never used"));
    terminal.type(key);
    EXPECT_EQ(terminal.finish(), 0);
    EXPECT_THAT(terminal.screen(), HasSubstr("\033[?25h\033[?1049l")) << "the terminal is as it was";
  }
}

TEST(Top, StaysWhenTheServerEnds) {
  ServerProcess server({});
  Terminal terminal({"top", url_of(server)});
  ASSERT_TRUE(terminal.wait_for("hit rate")) << terminal.screen();
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
  EXPECT_TRUE(terminal.wait_for("trying again")) << terminal.screen();
  terminal.type("q");
  EXPECT_EQ(terminal.finish(), 0);
}

}  // namespace
}  // namespace odmoe::testing::live_test
