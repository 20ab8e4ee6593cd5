// The server under clients that speak HTTP in all ways, well and badly: over sockets, with the bundled model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <csignal>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "deadline.h"
#include "odmoe/format.h"
#include "server/server_process.h"

namespace odmoe::testing::http_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

constexpr const char* kEndless = R"({"prompt":"KING","max_tokens":30000,"ignore_eos":true,"temperature":0})";
constexpr const char* kEndlessStream =
    R"({"prompt":"KING","max_tokens":30000,"ignore_eos":true,"temperature":0,"stream":true})";

std::string get(std::string_view path, std::string_view fields = "") {
  return odmoe::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, fields);
}
std::string post(std::string_view path, std::string_view body, std::string_view fields = "") {
  return odmoe::format("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n{}\r\n{}", path,
                       body.size(), fields, body);
}

int status_of(std::string_view answer) {
  return answer.starts_with("HTTP/1.1 ") ? std::stoi(std::string(answer.substr(9, 3))) : 0;
}

// One answer with a length, of a connection that goes on.
std::string read_answer(const Connection& connection) {
  std::string answer;
  while (true) {
    if (const size_t end = answer.find("\r\n\r\n"); end != std::string::npos) {
      const size_t at = answer.find("Content-Length: ");
      if (at > end || answer.size() >= end + 4 + std::stoul(answer.substr(at + 16))) return answer;
    }
    const std::string some = connection.read_some();
    if (some.empty()) return answer;
    answer += some;
  }
}

// All until the server closes, of a connection that says only this.
std::string ask(const ServerProcess& server, const std::string& sent) {
  const Connection connection(server.port());
  connection.send(sent);
  return connection.read_all();
}
int status(const ServerProcess& server, const std::string& sent) { return status_of(ask(server, sent)); }

const std::string kClose = "Connection: close\r\n";

int running(const ServerProcess& server) {
  const std::string answer = ask(server, get("/health", kClose));
  return Json::parse(answer.substr(answer.find("\r\n\r\n") + 4))["requests"]["running"].get<int>();
}

TEST(Http, EveryConnectionWithinTheLimitIsAnsweredBesideThoseThatListen) {
  const ServerProcess server({"--max-connections", "64"});
  std::vector<std::unique_ptr<Connection>> subscribers, clients;
  for (int i = 0; i < 7; ++i) {
    subscribers.push_back(std::make_unique<Connection>(server.port()));
    ASSERT_TRUE(subscribers.back()->send(get("/v1/events")));
    ASSERT_THAT(subscribers.back()->read_some(), StartsWith("HTTP/1.1 200"));
  }
  for (int i = 7; i < 64; ++i) clients.push_back(std::make_unique<Connection>(server.port()));
  for (int round = 0; round < 2; ++round) {
    for (const auto& client : clients) ASSERT_TRUE(client->send(get("/health")));
    for (const auto& client : clients) EXPECT_EQ(status_of(read_answer(*client)), 200);
  }
  // One more takes the place of one that waits.
  EXPECT_EQ(status(server, get("/health", kClose)), 200);
}

TEST(Http, WhatIsSentAfterAnErrorDoesNotHoldTheConnectionOrTheEnd) {
  ServerProcess server({"--max-body", "64KiB"});
  const Connection refused(server.port());
  ASSERT_TRUE(refused.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n{"));
  EXPECT_EQ(status_of(read_answer(refused)), 413);
  EXPECT_EQ(refused.read_all(), "");  // the other side closes, though not all was sent
  const Connection pending(server.port());
  ASSERT_TRUE(pending.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n{"));
  EXPECT_EQ(status_of(read_answer(pending)), 413);
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
}

TEST(Http, TheEndWaitsForNoConnectionWhateverItDoes) {
  ServerProcess server({"--context", "32768", "--drain", "0"});
  const Connection idle(server.port()), half(server.port()), body(server.port()), expecting(server.port()),
      deaf(server.port()), events(server.port());
  ASSERT_TRUE(half.send("GET /health HTTP/1.1\r\nHo"));
  ASSERT_TRUE(body.send("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"));
  ASSERT_TRUE(expecting.send(
      "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(expecting.read_some(), "HTTP/1.1 100 Continue\r\n\r\n");
  ASSERT_TRUE(deaf.send(post("/v1/completions", kEndlessStream)));
  ASSERT_TRUE(events.send(get("/v1/events")));
  EXPECT_THAT(events.read_some(), StartsWith("HTTP/1.1 200"));
  ASSERT_TRUE(until("a running request", [&] { return running(server) > 0; }));
  server.signal(SIGTERM);
  EXPECT_EQ(server.wait(), 0);
  EXPECT_THAT(events.read_all(), HasSubstr("event: end"));
  EXPECT_EQ(status_of(body.read_all()), 503);
  EXPECT_EQ(status_of(expecting.read_all()), 503);
}

TEST(Http, WhenTimeIsUpStreamsSayWhatHappenedAndWhetherTheyAreDone) {
  ServerProcess server({"--context", "32768", "--drain", "0", "--sessions", "2"});
  const Connection stream(server.port()), queued(server.port()), whole(server.port());
  ASSERT_TRUE(stream.send(post("/v1/completions", kEndlessStream)));
  ASSERT_TRUE(whole.send(post("/v1/completions", kEndless)));
  ASSERT_TRUE(until("two running requests", [&] { return running(server) == 2; }));
  ASSERT_TRUE(queued.send(post("/v1/completions", kEndlessStream)));
  EXPECT_THAT(queued.read_some(), StartsWith("HTTP/1.1 200"));
  server.signal(SIGTERM);
  for (const Connection* connection : {&stream, &queued}) {
    const std::string said = connection->read_all();
    EXPECT_THAT(said, HasSubstr("\"code\":\"shutting_down\""));
    EXPECT_THAT(said, HasSubstr("data: [DONE]\n\n"));
    EXPECT_TRUE(said.ends_with("0\r\n\r\n"));  // and the answer is whole
  }
  const std::string said = whole.read_all();
  EXPECT_EQ(status_of(said), 503);
  EXPECT_THAT(said, HasSubstr("\"code\":\"shutting_down\""));
  EXPECT_EQ(server.wait(), 0);
}

TEST(Http, ABodyIsJsonWhateverItCallsItselfAndAsLargeAsItMayBe) {
  constexpr size_t kMost = 1 << 20;
  const ServerProcess server({"--max-body", std::to_string(kMost)});
  const auto body_of = [](size_t size) {
    const std::string begin = R"({"content":"a+b%41&c=d")", end = "}";
    return begin + std::string(size - begin.size() - end.size(), ' ') + end;
  };
  for (const char* type : {"", "Content-Type: application/x-www-form-urlencoded\r\n",
                           "Content-Type: text/plain\r\n", "Content-Type: application/json\r\n"}) {
    for (const size_t size : {size_t{9 * 1024}, kMost}) {
      const std::string answer = ask(server, post("/tokenize", body_of(size), type + kClose));
      EXPECT_EQ(status_of(answer), 200) << type << size;
    }
    EXPECT_EQ(status(server, post("/tokenize", body_of(kMost + 1), type)), 413) << type;
  }
  const std::string body = body_of(20'000);
  const auto chunked = [&](const std::string& all) {
    return odmoe::format(
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\n{}\r\n10\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        kClose, all.substr(0, 16), all.size() - 16, all.substr(16));
  };
  const auto json = [](const std::string& answer) {
    return Json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
  };
  EXPECT_EQ(json(ask(server, chunked(body))), json(ask(server, post("/tokenize", body, kClose))));
  EXPECT_EQ(status(server, chunked(body_of(kMost + 1))), 413);
  const std::string parts =
      ask(server, post("/tokenize", "--x\r\n", "Content-Type: multipart/form-data; boundary=x\r\n" + kClose));
  EXPECT_EQ(status_of(parts), 415);
  EXPECT_THAT(parts, HasSubstr("multipart/form-data"));
}

TEST(Http, AnAddressIsFoundUnderAllItsNamesAndCountedUnderOne) {
  const ServerProcess server({});
  const std::string body = R"({"prompt":"KING","max_tokens":1})";
  for (const char* path :
       {"/v1/completions", "/completions", "/v1/completions/", "//v1/completions", "/v1/v1/completions"}) {
    EXPECT_EQ(status(server, post(path, body, kClose)), 200) << path;
  }
  for (const char* path : {"/models", "/v1/models/", "/models/demo", "/v1/models/demo/", "/health/",
                           "/v1/health", "/metrics/", "/stats", "/v1/"}) {
    EXPECT_EQ(status(server, get(path, kClose)), std::string_view(path) == "/v1/" ? 404 : 200) << path;
  }
  EXPECT_EQ(status(server, "HEAD /models/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), 200);
  const std::string options =
      ask(server, "OPTIONS /chat/completions/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(status_of(options), 204);
  EXPECT_THAT(options, HasSubstr("Allow: POST, OPTIONS\r\n"));
  const std::string wrong = ask(server, get("/chat/completions", kClose));
  EXPECT_EQ(status_of(wrong), 405);
  EXPECT_THAT(wrong, HasSubstr("Allow: POST, OPTIONS\r\n"));
  const std::string metrics = ask(server, get("/metrics", kClose));
  EXPECT_THAT(metrics, HasSubstr("odmoe_http_requests_total{route=\"/v1/completions\",status=\"200\"} 5"));
  EXPECT_THAT(metrics, Not(HasSubstr("route=\"/completions\"")));
}

TEST(Http, AHostIsAnsweredByTheNamesItHas) {
  const ServerProcess server({"--allow-host", "host.docker.internal", "--allow-host", "mac.local:8080"});
  const auto host = [&](const std::string& name) {
    return status(server,
                  odmoe::format("GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", name));
  };
  for (const char* good :
       {"localhost.", "x.localhost", "host.docker.internal:1", "mac.local:8080", "[::ffff:127.0.0.1]:80"}) {
    EXPECT_EQ(host(good), 200) << good;
  }
  for (const char* bad : {"evil.example", "mac.local", "10.0.0.1"}) EXPECT_EQ(host(bad), 403) << bad;
  for (const char* none : {"[::1].evil.com", "127.0.0.1:80@evil.com", "localhost:80:90", "localhost:x", ""}) {
    EXPECT_EQ(host(none), 400) << none;
  }
  EXPECT_EQ(
      status(server,
             "GET http://127.0.0.1:8080/health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
      200);
  EXPECT_EQ(status(server,
                   "GET http://evil.example/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            403);
  ServerProcess wrong({"--allow-host", "http://mac.local"}, false);
  EXPECT_EQ(wrong.wait(), 2);
  EXPECT_THAT(wrong.said(), HasSubstr("--allow-host http://mac.local"));
}

TEST(Http, AnOldClientGetsAStreamUpToTheEndOfTheConnection) {
  const ServerProcess server({});
  const std::string body = R"({"prompt":"KING","max_tokens":2,"stream":true})";
  const std::string answer =
      ask(server,
          odmoe::format("POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
  EXPECT_EQ(status_of(answer), 200);
  EXPECT_THAT(answer, Not(HasSubstr("Transfer-Encoding")));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\ndata: "));
  EXPECT_TRUE(answer.ends_with("data: [DONE]\n\n"));
}

TEST(Http, ErrorsCanBeReadByPagesThatMayAsk) {
  const ServerProcess server({"--cors", "http://chat.example", "--api-key", "secret", "--max-body", "1KiB",
                              "--max-connections", "1"});
  const std::string from = "Origin: http://chat.example\r\n", key = "Authorization: Bearer secret\r\n";
  const auto expect = [&](int wanted, const std::string& request) {
    const std::string answer = ask(server, request);
    EXPECT_EQ(status_of(answer), wanted);
    EXPECT_THAT(answer, HasSubstr("Access-Control-Allow-Origin: http://chat.example\r\n")) << wanted;
  };
  expect(401, get("/v1/models", from + kClose));
  expect(404, get("/nothing", from + key + kClose));
  expect(405, get("/tokenize", from + key + kClose));
  expect(413, post("/tokenize", std::string(2000, 'x'), from + key + kClose));
  expect(400, post("/tokenize", "{", from + key + kClose));
  expect(204,
         "OPTIONS /v1/models HTTP/1.1\r\nHost: localhost\r\nOrigin: http://chat.example\r\n"
         "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: "
         "authorization,x-stainless-os\r\n" +
             kClose + "\r\n");
  const Connection held(server.port());
  ASSERT_TRUE(held.send("GET /health HTTP/1.1\r\nHo"));
  ASSERT_TRUE(until("503", [&] { return status(server, get("/health", kClose)) == 503; }));
  expect(503, get("/health", from));
}

// Requests that are wrong in ways that have led two readers of one connection to see different requests in
// it, and others that are merely rubbish.  Behind each stands one that would be answered if it were seen.
TEST(Http, RubbishIsRefusedAndNothingBehindItIsAnswered) {
  const ServerProcess server({});
  const std::string hidden = get("/v1/models", kClose);
  const std::vector<std::string> lines = {"GET /health HTTP/1.1\r\n", "POST /tokenize HTTP/1.1\r\n"};
  const std::vector<std::string> wrong = {"Content-Length: 5\r\nContent-Length: 6\r\n",
                                          "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                                          "Transfer-Encoding : chunked\r\n",
                                          "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                                          "Transfer-Encoding:\vchunked\r\n",
                                          "Transfer-Encoding: xchunked\r\n",
                                          "X: y\r\n Transfer-Encoding: chunked\r\n",
                                          "Content-Length: -1\r\n",
                                          "Content-Length: 99999999999999999999\r\n",
                                          "Content-Length: 1e1\r\n",
                                          "Content-Length: 0x10\r\n",
                                          "Host: localhost\r\n",
                                          "Host : localhost\r\n",
                                          "X: \r \n",
                                          "X\n: y\r\n",
                                          ": y\r\n",
                                          "X: \x7F\r\n",
                                          std::string("X: \0\r\n", 6)};
  int refused = 0;
  for (const std::string& line : lines) {
    for (const std::string& fields : wrong) {
      const std::string answer =
          ask(server, odmoe::format("{}Host: localhost\r\n{}\r\n{}", line, fields, hidden));
      EXPECT_EQ(status_of(answer), 400) << fields;
      EXPECT_THAT(answer, Not(HasSubstr("\"data\""))) << fields;
      ++refused;
    }
  }
  for (const char* line :
       {" GET /health HTTP/1.1", "GET  /health HTTP/1.1", "GET /health HTTP/1.9", "GET /health HTTP/2.0",
        "GET /health", "GET /he alth HTTP/1.1", "\x01GET /health HTTP/1.1", "GET health HTTP/1.1"}) {
    const std::string answer = ask(server, std::string(line) + "\r\nHost: localhost\r\n\r\n" + hidden);
    EXPECT_EQ(status_of(answer), 400) << line;
    EXPECT_THAT(answer, Not(HasSubstr("\"data\""))) << line;
    ++refused;
  }
  for (const char* chunks :
       {"-1\r\n", "ffffffffffffffffff\r\n", " 5\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "\r\n"}) {
    const std::string answer =
        ask(server,
            std::string("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n") +
                chunks + hidden);
    EXPECT_EQ(status_of(answer), 400) << chunks;
    EXPECT_THAT(answer, Not(HasSubstr("\"data\""))) << chunks;
    ++refused;
  }
  const std::string metrics = ask(server, get("/metrics", kClose));
  EXPECT_THAT(metrics, HasSubstr("odmoe_http_requests_total{route=\"other\",status=\"400\"}"));
  EXPECT_GT(refused, 40);
}

TEST(Http, ThousandsOfBrokenHeadsLeaveTheServerAsItWas) {
  const ServerProcess server({});
  const std::vector<std::string> seeds = {
      get("http://localhost/v1/models?x=y", "Origin: http://localhost\r\nConnection: keep-alive\r\n"),
      post("/tokenize", R"({"content":"a"})", "Expect: 100-continue\r\nContent-Type: text/plain\r\n"),
      "POST /detokenize HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: "
      "chunked\r\n\r\n5;x=y\r\n{\"tok\r\n9\r\nens\":[1]}\r\n0\r\nT: 1\r\n\r\n",
      "OPTIONS * HTTP/1.0\r\nHost: x.localhost\r\nAccess-Control-Request-Headers: a, b\r\n\r\n"};
  std::mt19937 random(10);
  for (int i = 0; i < 3000; ++i) {
    std::string sent = seeds[random() % seeds.size()];
    for (size_t n = 1 + random() % 4; n > 0; --n) {
      const size_t at = random() % sent.size();
      switch (random() % 4) {
        case 0:
          sent[at] = static_cast<char>(random());
          break;
        case 1:
          sent.erase(at, 1 + random() % 4);
          break;
        case 2:
          sent.insert(at, sent.substr(random() % sent.size(), random() % 24));
          break;
        default:
          sent.insert(at, 1, "\r\n :,;/\t%"[random() % 9]);
      }
    }
    const Connection connection(server.port());
    connection.send(sent);
    connection.half_close();
    const std::string answer = connection.read_all();
    if (answer.empty()) continue;  // it was cut off before its end
    const int got = status_of(answer);
    EXPECT_TRUE(got == 100 || got == 200 || got == 204 || (got >= 400 && got < 500))
        << got << " for " << sent;
  }
  EXPECT_EQ(status(server, get("/health", kClose)), 200);
}

}  // namespace
}  // namespace odmoe::testing::http_test
