// The server as its clients see it: over sockets, with the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "deadline.h"
#include "server/server_process.h"
#include "temp_dir.h"

namespace odmoe::testing::server_test {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

// Generations that nobody waits for to end: they take far longer than a test.
const std::vector<std::string> kRoomForLong = {"--context", "32768"};
constexpr const char* kEndlessStream =
    R"({"messages":[{"role":"user","content":"Speak."}],"max_tokens":30000,"ignore_eos":true,"stream":true})";
constexpr const char* kEndless = R"({"prompt":"KING","max_tokens":30000,"ignore_eos":true,"temperature":0})";

httplib::Client client_of(const ServerProcess& server) {
  httplib::Client client("127.0.0.1", server.port());
  client.set_read_timeout(60);
  return client;
}

Json post(const ServerProcess& server, const char* path, const std::string& body, int status = 200) {
  httplib::Client client = client_of(server);
  const auto answer = client.Post(path, body, "application/json");
  EXPECT_TRUE(answer) << httplib::to_string(answer.error());
  if (!answer) return {};
  EXPECT_EQ(answer->status, status) << answer->body;
  return Json::parse(answer->body);
}

int running(const ServerProcess& server) {
  httplib::Client client = client_of(server);
  const auto answer = client.Get("/health");
  return answer ? Json::parse(answer->body)["requests"]["running"].get<int>() : -1;
}

bool becomes_idle(const ServerProcess& server) {
  for (int i = 0; i < 500; ++i) {
    if (running(server) == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

std::string request(std::string_view path, std::string_view body) {
  return odmoe::format(
      "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
      path, body.size(), body);
}

TEST(Server, TellsItsHealthItsModelAndItsFigures) {
  const ServerProcess server({});
  httplib::Client client = client_of(server);
  post(server, "/v1/completions", R"({"prompt":"KING","max_tokens":3})");
  const Json health = Json::parse(client.Get("/health")->body);
  EXPECT_EQ(health["status"], "ok");
  EXPECT_EQ(health["model_loaded"], true);
  const Json cache = health["expert_cache_stats"];
  EXPECT_GT(cache["cache_hits"].get<int>() + cache["cache_misses"].get<int>(), 0);
  EXPECT_TRUE(cache.contains("hit_rate") && cache.contains("working_set_experts"));
  EXPECT_EQ(Json::parse(client.Get("/v1/models")->body)["data"][0]["id"], "demo");
  EXPECT_EQ(client.Get("/v1/models/other")->status, 404);
  const std::string metrics = client.Get("/metrics")->body;
  EXPECT_THAT(metrics, HasSubstr("odmoe_tokens_total{kind=\"generated\"} 3"));
  EXPECT_THAT(metrics, HasSubstr("odmoe_expert_demands_total{result=\"hit\"}"));
  EXPECT_THAT(metrics, HasSubstr("odmoe_http_requests_total{route=\"/v1/completions\",status=\"200\"} 1"));
  EXPECT_GT(Json::parse(client.Get("/v1/stats")->body)["decode"]["tokens"].get<int>(), 0);
}

TEST(Server, TokensGoThereAndBack) {
  const ServerProcess server({});
  const Json tokens = post(server, "/tokenize", R"({"content":"To be, or not\n"})");
  EXPECT_GT(tokens["count"].get<int>(), 2);
  EXPECT_EQ(post(server, "/detokenize", Json{{"tokens", tokens["tokens"]}}.dump())["content"],
            "To be, or not\n");
  post(server, "/detokenize", R"({"tokens":[99999999]})", 400);
}

TEST(Server, ErrorsHaveOpenAisShape) {
  const ServerProcess server({"--max-body", "4KiB"});
  httplib::Client client = client_of(server);
  const Json bad = post(server, "/v1/chat/completions", R"({"messages":[],"n":0})", 400);
  for (const char* key : {"message", "type", "param", "code"}) EXPECT_TRUE(bad["error"].contains(key)) << key;
  EXPECT_EQ(bad["error"]["param"], "n");
  post(server, "/v1/chat/completions", "{", 400);
  EXPECT_EQ(Json::parse(client.Get("/nothing")->body)["error"]["code"], "not_found");
  const auto wrong_method = client.Get("/v1/completions");
  EXPECT_EQ(wrong_method->status, 405);
  EXPECT_EQ(wrong_method->get_header_value("Allow"), "POST, OPTIONS");
  const Json large = post(server, "/v1/completions", Json{{"prompt", std::string(8000, 'x')}}.dump(), 413);
  EXPECT_THAT(large["error"]["message"].get<std::string>(), HasSubstr("--max-body"));
}

// Whether the one generation ends because its client is gone.
bool is_cancelled(const ServerProcess& server) {
  httplib::Client client = client_of(server);
  for (int i = 0; i < 2000; ++i) {
    const std::string metrics = client.Get("/metrics")->body;
    if (metrics.contains("odmoe_generations_total{end=\"cancelled\"} 1")) return true;
    if (metrics.contains("odmoe_generations_total{")) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(Server, EndsAStreamWhoseClientGoesAway) {
  const ServerProcess server(kRoomForLong);
  {
    const Connection connection(server.port());
    ASSERT_TRUE(connection.send(request("/v1/chat/completions", kEndlessStream)));
    EXPECT_THAT(connection.read_some(), StartsWith("HTTP/1.1 200"));
    // The head of the answer comes before its turn.
    ASSERT_TRUE(until("a running request", [&] { return running(server) > 0; }));
    connection.read_some();
  }
  EXPECT_TRUE(is_cancelled(server));
}

TEST(Server, EndsAWholeAnswerWhoseClientGoesAway) {
  const ServerProcess server(kRoomForLong);
  {
    const Connection connection(server.port());
    ASSERT_TRUE(connection.send(request("/v1/completions", kEndless)));
    ASSERT_TRUE(until("a running request", [&] { return running(server) > 0; }));
  }
  EXPECT_TRUE(is_cancelled(server));
}

TEST(Server, AClientThatSaysItWillSendNoMoreCountsAsGone) {
  const ServerProcess server(kRoomForLong);
  const Connection connection(server.port());
  ASSERT_TRUE(connection.send(request("/v1/chat/completions", kEndlessStream)));
  connection.read_some();
  connection.half_close();
  EXPECT_TRUE(is_cancelled(server));
}

TEST(Server, ManyAtOnceAllGetTheirAnswer) {
  const ServerProcess server({"--sessions", "3"});
  const std::string body = R"({"prompt":"KING RICHARD:","max_tokens":12,"temperature":0})";
  const Json alone = post(server, "/v1/completions", body);
  std::vector<std::thread> threads;
  std::atomic<int> same = 0;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&] {
      const Json answer = post(server, "/v1/completions", body);
      if (answer["choices"][0]["text"] == alone["choices"][0]["text"]) ++same;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(same, 12);
}

TEST(Server, BeyondTheQueueRequestsAreToldToComeBack) {
  const ServerProcess server({"--sessions", "1", "--queue", "1", "--context", "32768"});
  std::vector<std::unique_ptr<Connection>> held;
  for (int i = 0; i < 2; ++i) {
    held.push_back(std::make_unique<Connection>(server.port()));
    ASSERT_TRUE(held.back()->send(request("/v1/chat/completions", kEndlessStream)));
    EXPECT_THAT(held.back()->read_some(), StartsWith("HTTP/1.1 200"));
  }
  httplib::Client client = client_of(server);
  const auto refused = client.Post("/v1/completions", R"({"prompt":"x"})", "application/json");
  EXPECT_EQ(refused->status, 429);
  EXPECT_GE(std::stoi(refused->get_header_value("Retry-After")), 1);
  EXPECT_EQ(Json::parse(refused->body)["error"]["code"], "queue_full");
}

TEST(Server, ADeadlineEndsARequest) {
  const ServerProcess server({"--timeout", "1", "--sessions", "1"});
  // More than a second of it: the second request waits behind the first for all of its time.
  const Connection first(server.port());
  ASSERT_TRUE(first.send(request(
      "/v1/completions", R"({"prompt":"x","max_tokens":480,"ignore_eos":true,"n":16,"stream":true})")));
  std::string said;
  for (std::string some = first.read_some(); !some.empty() && !said.contains("[DONE]");
       some = first.read_some()) {
    said += some;
  }
  EXPECT_THAT(said, HasSubstr("\"code\":\"timeout\""));
  EXPECT_TRUE(becomes_idle(server));
}

TEST(Server, TermLetsRequestsFinishAndEndsWithZero) {
  ServerProcess server({});
  const Connection connection(server.port());
  ASSERT_TRUE(connection.send(
      request("/v1/completions", R"({"prompt":"KING","max_tokens":60,"ignore_eos":true,"stream":true})")));
  std::string said = connection.read_some();
  server.signal(SIGTERM);
  ASSERT_TRUE(server.wait_for("ending"));
  for (std::string some = connection.read_some(); !some.empty(); some = connection.read_some()) said += some;
  EXPECT_THAT(said, HasSubstr("\"finish_reason\":\"length\""));
  EXPECT_THAT(said, HasSubstr("[DONE]"));
  EXPECT_EQ(server.wait(), 0);
}

TEST(Server, ASecondSignalEndsAtOnce) {
  ServerProcess server(kRoomForLong);
  const Connection connection(server.port());
  ASSERT_TRUE(connection.send(request("/v1/chat/completions", kEndlessStream)));
  connection.read_some();
  server.signal(SIGINT);
  ASSERT_TRUE(server.wait_for("ending"));
  server.signal(SIGINT);
  EXPECT_EQ(server.wait(), 130);
}

TEST(Server, WhatItCannotStartWithIsSaid) {
  const TempDir dir;
  ServerProcess missing({"--api-key-file", (dir / "none").string()}, false);
  EXPECT_EQ(missing.wait(), 1);
  EXPECT_THAT(missing.said(), HasSubstr("none"));
  const ServerProcess first({});
  ServerProcess second({"--port", std::to_string(first.port())}, false);
  EXPECT_EQ(second.wait(), 1);
  EXPECT_THAT(second.said(), HasSubstr("choose another with --port"));
  ServerProcess template_unknown({"--chat-template", "klingon"}, false);
  EXPECT_NE(template_unknown.wait(), 0);
  EXPECT_THAT(template_unknown.said(), HasSubstr("chatml"));
}

// How many tokens of the prompt the server had already, for a client with this key.
int cached_tokens(const ServerProcess& server, const std::string& key) {
  httplib::Client client = client_of(server);
  if (!key.empty()) client.set_bearer_token_auth(key);
  const auto answer = client.Post(
      "/v1/completions",
      R"({"prompt":"A secret: the dagger is buried under the old oak by the river","max_tokens":1})",
      "application/json");
  EXPECT_TRUE(answer);
  if (!answer) return -1;
  EXPECT_EQ(answer->status, 200) << answer->body;
  return Json::parse(answer->body)["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
}

TEST(Server, AKeyIsNotToldWhatOthersAsked) {
  const TempDir dir;
  const auto options = [&](std::initializer_list<std::string> more) {
    std::vector<std::string> all = {"--prompt-reuse", "longest",     "--prompt-cache",
                                    "4MiB",           "--cache-dir", (dir / "prompts").string()};
    all.insert(all.end(), more);
    return all;
  };
  const auto with_keys = options({"--api-key", "alpha", "--api-key", "beta"});
  {
    ServerProcess server(with_keys);
    EXPECT_EQ(cached_tokens(server, "alpha"), 0);
    EXPECT_EQ(cached_tokens(server, "beta"), 0);
    EXPECT_GT(cached_tokens(server, "alpha"), 5);
    server.signal(SIGTERM);
    EXPECT_EQ(server.wait(), 0);
  }
  for (const auto& file : std::filesystem::directory_iterator(dir / "prompts")) {
    std::ifstream in(file.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    EXPECT_THAT(bytes, Not(HasSubstr("alpha")));
  }
  {
    ServerProcess server(options({"--api-key", "gamma", "--api-key", "alpha"}));
    EXPECT_EQ(cached_tokens(server, "gamma"), 0);
    EXPECT_GT(cached_tokens(server, "alpha"), 5) << "after a restart";
  }
  {
    const ServerProcess server(options({}));
    EXPECT_EQ(cached_tokens(server, ""), 0) << "without keys nobody is anybody";
  }
  {
    auto sharing = with_keys;
    sharing.emplace_back("--share-prompts");
    const ServerProcess server(sharing);
    EXPECT_EQ(cached_tokens(server, "alpha"), 0) << "what was not to be shared is not";
    EXPECT_GT(cached_tokens(server, "beta"), 5);
  }
}

TEST(Server, WhoCanReadPromptsAndKeysIsSeenTo) {
  namespace fs = std::filesystem;
  const TempDir dir;
  fs::create_directory(dir / "open");
  fs::permissions(dir / "open", static_cast<fs::perms>(0755));
  ServerProcess refused({"--cache-dir", (dir / "open").string()}, false);
  EXPECT_NE(refused.wait(), 0);
  EXPECT_THAT(refused.said(), HasSubstr("chmod 700"));

  const fs::path keys = dir.write("keys", "alpha\n");
  fs::permissions(keys, static_cast<fs::perms>(0644));
  const ServerProcess warned({"--api-key-file", keys.string()});
  EXPECT_THAT(warned.said(), HasSubstr("other users can read it; chmod 600"));
  fs::permissions(keys, static_cast<fs::perms>(0640));
  const ServerProcess content({"--api-key-file", keys.string()});
  EXPECT_THAT(content.said(), Not(HasSubstr("chmod 600")));
}

TEST(Server, ImagesAreDescribedByTheSecondMachine) {
  httplib::Server second;
  second.Post("/v1/chat/completions", [](const httplib::Request&, httplib::Response& response) {
    response.set_content(R"({"choices":[{"message":{"content":"a red cat on a mat"}}]})", "application/json");
  });
  const int port = second.bind_to_any_port("127.0.0.1");
  std::thread thread([&] { second.listen_after_bind(); });
  const ServerProcess server({"--vision-url", odmoe::format("http://127.0.0.1:{}", port)});
  const auto ask = [&](const char* content) {
    return post(server, "/v1/chat/completions",
                odmoe::format(R"({{"messages":[{{"role":"user","content":{}}}],"max_tokens":1}})", content));
  };
  const Json with_image = ask(R"([{"type":"text","text":"See:"},{"type":"image_url","image_url":
                                  {"url":"data:image/png;base64,aGVsbG8="}}])");
  const Json as_text = ask(R"("See:[Image 1: a red cat on a mat]\n")");
  EXPECT_EQ(with_image["usage"]["prompt_tokens"], as_text["usage"]["prompt_tokens"]);
  second.stop();
  thread.join();
  const Json down = post(server, "/v1/chat/completions",
                         R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":
                             {"url":"data:image/png;base64,b3RoZXI="}}]}]})",
                         502);
  EXPECT_EQ(down["error"]["code"], "vision_failed");
}

TEST(Server, EveryFamilyCanBeHeldToACall) {
  for (const char* family : {"chatml", "kimi-k2", "deepseek-v3"}) {
    const ServerProcess server({"--chat-template", family, "--context", "768"});
    const Json answer =
        post(server, "/v1/chat/completions", R"({"messages":[{"role":"user","content":"Weather?"}],
        "tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":
        {"city":{"enum":["Verona","Venice"]}},"required":["city"],"additionalProperties":false}}}],
        "tool_choice":"required","parallel_tool_calls":false,"seed":4})");
    const Json choice = answer["choices"][0];
    EXPECT_EQ(choice["finish_reason"], "tool_calls") << family;
    ASSERT_EQ(choice["message"]["tool_calls"].size(), 1) << family;
    const Json function = choice["message"]["tool_calls"][0]["function"];
    EXPECT_EQ(function["name"], "get_weather");
    EXPECT_TRUE(
        Json::parse(function["arguments"].get<std::string>())["city"].get<std::string>().starts_with("Ve"));
  }
}

TEST(Server, ArgumentsOfACallAreAnObjectWhateverItsSchemaIs) {
  const ServerProcess server({"--context", "256"});
  const auto ask = [&](const char* parameters, int status) {
    return post(server, "/v1/chat/completions",
                odmoe::format(R"({{"messages":[{{"role":"user","content":"x"}}],"max_tokens":4,"tools":[{{)"
                              R"("type":"function","function":{{"name":"f","parameters":{}}}}}],)"
                              R"("tool_choice":"required"}})",
                              parameters),
                status);
  };
  for (const char* schema : {"true", "{}", R"({"type":["object","null"]})", R"({"properties":{}})"})
    ask(schema, 200);
  for (const char* none : {"false", "5", R"("x")", "[1]", R"({"type":"string"})"}) {
    EXPECT_EQ(ask(none, 400)["error"]["param"], "tools[0].function.parameters.type") << none;
  }
}

// Bodies and heads with a few bytes changed: every one is answered or its connection closed, and the server
// goes on.
TEST(Server, TenThousandMutatedRequestsAreAnswered) {
  const ServerProcess server({"--sessions", "1", "--context", "64"});
  const std::vector<std::string> bodies = {
      R"({"model":"m","prompt":"A","max_tokens":0,"echo":true,"temperature":0.5,"top_p":0.9,"n":1,"stop":["x"],"logit_bias":{"5":1}})",
      R"({"messages":[{"role":"user","content":"A"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"r"}],"max_tokens":1,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]})",
      R"({"messages":[{"role":"user","content":[{"type":"text","text":"A"}]}],"max_tokens":1,"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"a":{"enum":[1,"x"]}},"required":["a"]}}}})",
      R"({"content":"abc","add_special":true,"with_pieces":true})", R"({"tokens":[1,2,3]})"};
  const std::vector<const char*> paths = {"/v1/completions", "/v1/chat/completions", "/v1/chat/completions",
                                          "/tokenize", "/detokenize"};
  std::mt19937 random(20);
  auto connection = std::make_unique<Connection>(server.port());
  int answered = 0, closed = 0;
  for (int i = 0; i < 10'000; ++i) {
    const size_t kind = random() % bodies.size();
    const bool in_head = random() % 10 == 0;
    std::string body = bodies[kind];
    const auto mutate = [&](std::string& text) {
      for (size_t n = 1 + random() % 3; n > 0 && !text.empty(); --n) {
        const size_t at = random() % text.size();
        switch (random() % 4) {
          case 0:
            text[at] = static_cast<char>(random());
            break;
          case 1:
            text.erase(at, 1 + random() % 8);
            break;
          case 2:
            text.insert(at, text.substr(random() % text.size(), random() % 16));
            break;
          default:
            text.insert(at, 1, "\"{}[],:0-\\"[random() % 10]);
        }
      }
    };
    if (!in_head) mutate(body);
    std::string sent = request(paths[kind], body);
    if (in_head) {
      std::string head = sent.substr(0, sent.size() - body.size());
      mutate(head);
      sent = head + body;
      // Its length may be wrong now, so nothing more is said on this connection.
      const Connection once(server.port());
      ASSERT_TRUE(once.send(sent));
      once.half_close();
      closed += once.read_all().empty() ? 1 : 0;
      continue;
    }
    ASSERT_TRUE(connection->send(sent)) << i;
    std::string answer = connection->read_some();
    ASSERT_THAT(answer, StartsWith("HTTP/1.1 ")) << i << ": " << body;
    const int status = std::stoi(answer.substr(9, 3));
    EXPECT_TRUE(status == 200 || (status >= 400 && status < 500)) << status << " for " << body;
    ++answered;
    // The rest of the answer, by its length.
    const size_t length = answer.find("Content-Length: "), head_end = answer.find("\r\n\r\n");
    if (length == std::string::npos || head_end == std::string::npos ||
        answer.contains("Connection: close")) {
      connection = std::make_unique<Connection>(server.port());
      continue;
    }
    const size_t wanted = head_end + 4 + std::stoul(answer.substr(length + 16));
    while (answer.size() < wanted) {
      const std::string more = connection->read_some();
      ASSERT_FALSE(more.empty()) << i;
      answer += more;
    }
    if (i % 500 == 499)
      connection = std::make_unique<Connection>(server.port());  // the server's own limit is 1000
  }
  EXPECT_GT(answered, 8000);
  EXPECT_EQ(
      post(server, "/v1/completions", R"({"prompt":"KING","max_tokens":2})")["usage"]["completion_tokens"],
      2);
}

}  // namespace
}  // namespace odmoe::testing::server_test
