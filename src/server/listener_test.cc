#include "server/listener.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/file_descriptor.h"
#include "deadline.h"
#include "odmoe/format.h"

namespace odmoe::server {
namespace {

using odmoe::testing::Deadline;
using odmoe::testing::until;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    odmoe::testing::set_deadline(socket_.number());
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_.number(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  bool connected() const { return connected_; }
  bool send(std::string_view text) const {
    return ::send(socket_.number(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
  }
  void half_close() const { ::shutdown(socket_.number(), SHUT_WR); }
  void close() const { socket_.close(); }
  // One answer, with a body of known length or without one; bytes after it wait for the next call.
  std::string answer() const {
    std::array<char, 4096> buffer{};
    while (true) {
      if (const size_t end = read_.find("\r\n\r\n"); end != std::string::npos) {
        const size_t at = read_.find("Content-Length: ");
        const size_t size = end + 4 + (at < end ? std::stoul(read_.substr(at + 16)) : 0);
        if (read_.size() >= size) {
          std::string text = read_.substr(0, size);
          read_.erase(0, size);
          return text;
        }
      }
      const size_t n = receive(buffer);
      if (n == 0) return std::exchange(read_, "");
      read_.append(buffer.data(), n);
    }
  }
  // All until the other side closes.
  std::string rest() const {
    std::string text = std::exchange(read_, "");
    std::array<char, 4096> buffer{};
    for (size_t n = 0; (n = receive(buffer)) > 0;) text.append(buffer.data(), n);
    return text;
  }

 private:
  // 0: the other side closed, or nothing came in time, which is a failure.
  size_t receive(std::span<char> buffer) const {
    const ssize_t n = ::recv(socket_.number(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) ADD_FAILURE() << "nothing came, and no end";
    return n > 0 ? static_cast<size_t>(n) : 0;
  }

  mutable FileDescriptor socket_;
  mutable std::string read_;
  bool connected_ = false;
};

Body words(const ApiError& error) {
  return {.type = "text/plain", .text = error.code + ": " + error.message};
}

class ListenerTest : public ::testing::Test {
 protected:
  void start(const ConnectionLimits& limits) {
    listener_ = std::make_unique<Listener>(limits, words);
    listener_->set_refused([this](const std::string&, const ApiError& error) { refused_ = error.status; });
    listener_->set_pre_routing_handler([](const httplib::Request&, httplib::Response& response) {
      if (!Listener::one_too_many()) return httplib::Server::HandlerResponse::Unhandled;
      response.status = 503;
      response.set_content(words(too_many_connections()).text, "application/json");
      return httplib::Server::HandlerResponse::Handled;
    });
    listener_->Get("/", [](const httplib::Request&, httplib::Response& response) {
      response.set_content("hello", "text/plain");
    });
    listener_->Get("/large", [this](const httplib::Request& request, httplib::Response& response) {
      ++large_;
      Listener::stream(
          request, response, "text/plain",
          [](size_t, httplib::DataSink& sink) {
            const std::string data(1 << 16, 'x');
            return sink.write(data.data(), data.size());
          },
          [this](bool success) { gave_up_ = !success; });
    });
    listener_->Get("/three", [](const httplib::Request& request, httplib::Response& response) {
      Listener::stream(
          request, response, "text/plain",
          [](size_t, httplib::DataSink& sink) {
            sink.write("three", 5);
            sink.done();
            return true;
          },
          [](bool) {});
    });
    listener_->Get("/wait", [this](const httplib::Request& request, httplib::Response& response) {
      ++waiting_;
      while (!release_ && !request.is_connection_closed())
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      response.set_content(release_ ? "waited" : "gone", "text/plain");
    });
    listener_->Post("/length", [this](const httplib::Request&, httplib::Response& response) {
      ++lengths_;
      const auto body = Listener::read_body(kMaxBody, [](uint64_t) { return ApiStatus(); });
      response.status = body.has_value() ? 200 : body.error().status;
      response.set_content(body.has_value() ? std::to_string(body->size()) : body.error().message,
                           "text/plain");
    });
    listener_->Post("/refused",
                    [](const httplib::Request&, httplib::Response& response) { response.status = 401; });
    port_ = listener_->bind("127.0.0.1", 0);
    ASSERT_GT(port_, 0);
    listener_->start();
  }
  [[nodiscard]] bool until_connections(size_t n) const {
    return until(std::to_string(n) + " connections", [&] { return listener_->connections() == n; });
  }
  [[nodiscard]] bool until_waiting(int n) const {
    return until(std::to_string(n) + " requests for /wait", [&] { return waiting_ >= n; });
  }
  static constexpr size_t kMaxBody = 1 << 20;
  std::atomic<bool> gave_up_ = false, release_ = false;
  std::atomic<int> refused_ = 0, waiting_ = 0, lengths_ = 0, large_ = 0;
  // Whatever a client does, the listener ends; its destructor waits for all its threads.
  Deadline deadline_{"the listener's end"};
  std::unique_ptr<Listener> listener_;
  int port_ = 0;
};

std::string get(std::string_view path) {
  return odmoe::format("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
}
std::string post(std::string_view path, std::string_view fields, std::string_view body) {
  return odmoe::format("POST {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n{}", path, fields, body);
}

TEST_F(ListenerTest, AnswersAndKeepsTheConnection) {
  start({});
  const Client client(port_);
  ASSERT_TRUE(
      client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
                  "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
  const std::string answers = client.rest();
  EXPECT_THAT(answers, StartsWith("HTTP/1.1 200"));
  const size_t second = answers.find("HTTP/1.1 200", 1);
  EXPECT_NE(second, std::string::npos);  // both, though they came at once
}

TEST_F(ListenerTest, EveryConnectionWithinTheLimitIsAnsweredWhateverTheOthersDo) {
  constexpr size_t kConnections = 64;
  start({.connections = kConnections});
  std::vector<std::unique_ptr<Client>> clients;
  clients.reserve(kConnections);
  // Half of them get an answer that does not end, the others are kept open.
  for (size_t i = 0; i < kConnections; ++i) clients.push_back(std::make_unique<Client>(port_));
  for (size_t i = 0; i < kConnections / 2; ++i) ASSERT_TRUE(clients[i]->send(get("/wait")));
  ASSERT_TRUE(until_waiting(kConnections / 2));
  for (int round = 0; round < 3; ++round) {
    for (size_t i = kConnections / 2; i < kConnections; ++i) ASSERT_TRUE(clients[i]->send(get("/")));
    for (size_t i = kConnections / 2; i < kConnections; ++i)
      EXPECT_THAT(clients[i]->answer(), HasSubstr("hello"));
  }
  EXPECT_EQ(listener_->connections(), kConnections);
  release_ = true;
  for (size_t i = 0; i < kConnections / 2; ++i) EXPECT_THAT(clients[i]->answer(), HasSubstr("waited"));
}

TEST_F(ListenerTest, AnIdleConnectionGivesWayToANewOne) {
  start({.connections = 2});
  const Client busy(port_), idle(port_);
  ASSERT_TRUE(busy.send(get("/wait")));
  ASSERT_TRUE(until_waiting(1));
  ASSERT_TRUE(idle.send(get("/")));
  EXPECT_THAT(idle.answer(), HasSubstr("hello"));
  const Client fresh(port_);
  ASSERT_TRUE(fresh.send(get("/")));
  EXPECT_THAT(fresh.answer(), HasSubstr("hello"));
  EXPECT_EQ(idle.rest(), "");  // it was closed
  release_ = true;
  EXPECT_THAT(busy.answer(), HasSubstr("waited"));
}

TEST_F(ListenerTest, ARequestThatDripsInIsEnded) {
  start({.grace = std::chrono::milliseconds(300)});
  const Client client(port_);
  ASSERT_TRUE(client.send("GET / HTTP/1.1\r\nHost: localhost\r\n"));
  // A header line now and then, each well within any time limit of a single read.
  std::thread dripping([&] {
    for (int i = 0; i < 200; ++i) {
      if (!client.send("X-Drip: 1\r\n")) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  EXPECT_THAT(client.rest(), StartsWith("HTTP/1.1 408"));  // long before the dripping would end
  EXPECT_EQ(refused_, 408);
  client.half_close();  // nothing more can be dripped
  dripping.join();
}

TEST_F(ListenerTest, AClientThatDoesNotReadIsDropped) {
  start({.write_timeout = std::chrono::milliseconds(200)});
  const Client client(port_);
  ASSERT_TRUE(client.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  EXPECT_TRUE(until("the stream given up", [&] { return gave_up_.load(); }));
  EXPECT_TRUE(until_connections(0));
}

TEST_F(ListenerTest, ConnectionsBeyondTheLimitAreToldSo) {
  start({.connections = 2});
  std::vector<std::unique_ptr<Client>> held;
  for (int i = 0; i < 2; ++i) {
    held.push_back(std::make_unique<Client>(port_));
    ASSERT_TRUE(held.back()->send("GET / HTTP/1.1\r\n"));
  }
  ASSERT_TRUE(until_connections(2));
  // More than there are threads to refuse with, and some that say nothing.
  std::vector<std::unique_ptr<Client>> refused;
  for (size_t i = 0; i < kRefusalThreads + 20; ++i) {
    refused.push_back(std::make_unique<Client>(port_));
    if (i % 3 != 0) refused.back()->send(get("/"));
  }
  for (const auto& client : refused) {
    const std::string answer = client->rest();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 503"));
    EXPECT_THAT(answer, HasSubstr("too_many_connections"));
  }
  held.clear();
  ASSERT_TRUE(until_connections(0));
  const Client served(port_);
  ASSERT_TRUE(served.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
  EXPECT_THAT(served.rest(), HasSubstr("hello"));
}

TEST_F(ListenerTest, BodiesAreWholeHoweverTheyCome) {
  start({});
  const Client client(port_);
  for (const size_t size : {size_t{0}, size_t{9000}, kMaxBody}) {
    const std::string body(size, 'x');
    ASSERT_TRUE(client.send(post("/length", odmoe::format("Content-Length: {}\r\n", size), body)));
    EXPECT_THAT(client.answer(), HasSubstr("\r\n\r\n" + std::to_string(size)));
    const std::string chunks =
        size == 0 ? "0\r\n\r\n"
                  : odmoe::format("1\r\nx\r\n{:x}\r\n{}\r\n0\r\n\r\n", size - 1, body.substr(1));
    ASSERT_TRUE(client.send(post("/length", "Transfer-Encoding: chunked\r\n", chunks)));
    EXPECT_THAT(client.answer(), HasSubstr("\r\n\r\n" + std::to_string(size)));
  }
}

TEST_F(ListenerTest, OneByteTooMuchIsRefusedAndTheClientCanReadIt) {
  start({});
  const std::string body(kMaxBody + 1, 'x');
  for (const std::string& request :
       {post("/length", odmoe::format("Content-Length: {}\r\n", body.size()), body),
        post("/length", "Transfer-Encoding: chunked\r\n",
             odmoe::format("{:x}\r\n{}\r\n0\r\n\r\n", body.size(), body))}) {
    const Client client(port_);
    client.send(request);
    const std::string answer = client.rest();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 413"));
    EXPECT_THAT(answer, HasSubstr("Connection: close"));
  }
}

TEST_F(ListenerTest, ABodyThatIsExpectedIsAskedForWhenItIsWanted) {
  start({});
  const Client client(port_);
  ASSERT_TRUE(client.send(post("/length", "Expect: 100-continue\r\nContent-Length: 5\r\n", "")));
  EXPECT_THAT(client.answer(), StartsWith("HTTP/1.1 100"));
  ASSERT_TRUE(client.send("hello"));
  EXPECT_THAT(client.answer(), HasSubstr("\r\n\r\n5"));
  ASSERT_TRUE(client.send(post("/refused", "Expect: 100-continue\r\nContent-Length: 5\r\n", "")));
  EXPECT_THAT(client.rest(), StartsWith("HTTP/1.1 401"));
}

TEST_F(ListenerTest, ARefusedBodyThatIsSmallIsReadPast) {
  start({});
  const Client client(port_);
  ASSERT_TRUE(client.send(post("/refused", "Content-Length: 5\r\n", "GET /") + get("/")));
  EXPECT_THAT(client.answer(), StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(client.answer(), HasSubstr("hello"));
}

TEST_F(ListenerTest, NothingBehindAMalformedRequestIsAnswered) {
  start({});
  for (const char* bad :
       {" GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "POST /length HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /length HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"}) {
    const Client client(port_);
    ASSERT_TRUE(client.send(bad + get("/")));
    const std::string answer = client.rest();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400")) << bad;
    EXPECT_THAT(answer, HasSubstr("Connection: close"));
    EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos) << answer;
  }
}

TEST_F(ListenerTest, AStreamGoesToOldClientsWithoutChunks) {
  start({});
  const Client old(port_), current(port_);
  ASSERT_TRUE(old.send("GET /three HTTP/1.0\r\n\r\n"));
  const std::string answer = old.rest();
  EXPECT_THAT(answer, Not(HasSubstr("chunked")));
  EXPECT_TRUE(answer.ends_with("\r\n\r\nthree")) << answer;
  ASSERT_TRUE(current.send(get("/three")));
  EXPECT_THAT(current.answer(), HasSubstr("Transfer-Encoding: chunked"));
}

TEST_F(ListenerTest, TheEndWaitsForThoseWhoAreAnsweredAndForNobodyElse) {
  start({});
  const Client idle(port_), half(port_), body(port_), slow(port_), answered(port_), lingering(port_),
      closed(port_);
  ASSERT_TRUE(half.send("GET / HTT"));
  ASSERT_TRUE(body.send(post("/length", "Content-Length: 100000\r\n", "x")));
  ASSERT_TRUE(slow.send(get("/large")));
  ASSERT_TRUE(answered.send(get("/wait")));
  ASSERT_TRUE(lingering.send(post("/refused", "Content-Length: 1000000\r\n", "x")));
  closed.half_close();
  EXPECT_THAT(lingering.answer(), StartsWith("HTTP/1.1 401"));
  ASSERT_TRUE(until_waiting(1));
  ASSERT_TRUE(until("the request for /length", [&] { return lengths_ > 0; }));
  std::thread ending([&] { listener_->stop(std::chrono::hours(1)); });
  EXPECT_EQ(idle.rest(), "");
  EXPECT_EQ(half.rest(), "");
  EXPECT_THAT(body.rest(), StartsWith("HTTP/1.1 503"));
  EXPECT_EQ(lingering.rest(), "");
  slow.close();
  release_ = true;
  EXPECT_THAT(answered.rest(), HasSubstr("waited"));
  ending.join();
}

TEST_F(ListenerTest, WhoDoesNotEndInTimeIsCutOff) {
  start({});
  const Client waits(port_), slow(port_);
  ASSERT_TRUE(slow.send(get("/large")));
  ASSERT_TRUE(waits.send(get("/wait")));
  ASSERT_TRUE(until_waiting(1));
  ASSERT_TRUE(until("the request for /large", [&] { return large_ > 0; }));
  listener_->stop(std::chrono::milliseconds(20));
  EXPECT_TRUE(gave_up_);
  EXPECT_EQ(listener_->connections(), 0);
}

// UndefinedBehaviorSanitizer looks at objects through a pipe, and without descriptors calls all of them
// invalid.
#ifdef ODMOE_ADDRESS_SANITIZER
#define ODMOE_SKIP_WITHOUT_DESCRIPTORS() GTEST_SKIP() << "sanitizers need descriptors"
#else
#define ODMOE_SKIP_WITHOUT_DESCRIPTORS() static_cast<void>(0)
#endif

// Takes descriptors of this process until so few are left.
class Descriptors {
 public:
  explicit Descriptors(size_t left) {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit few = before_;
    few.rlim_cur = std::min<rlim_t>(before_.rlim_max, 256);
    setrlimit(RLIMIT_NOFILE, &few);
    for (FileDescriptor one(::dup(0)); one; one = FileDescriptor(::dup(0))) taken_.push_back(std::move(one));
    for (; left > 0 && !taken_.empty(); --left) taken_.pop_back();
  }
  ~Descriptors() { setrlimit(RLIMIT_NOFILE, &before_); }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

 private:
  rlimit before_{};
  std::vector<FileDescriptor> taken_;
};

TEST_F(ListenerTest, WithoutDescriptorsClientsAreToldAndThoseAfterThemServed) {
  ODMOE_SKIP_WITHOUT_DESCRIPTORS();
  start({});
  const Client first(port_);
  ASSERT_TRUE(first.send(get("/wait")));
  ASSERT_TRUE(until_waiting(1));
  {
    const Descriptors one_left(1);
    const Client refused(port_);
    EXPECT_THAT(refused.rest(), HasSubstr("too_many_connections"));
  }
  const Client served(port_);
  ASSERT_TRUE(served.send(get("/")));
  EXPECT_THAT(served.answer(), HasSubstr("hello"));
  release_ = true;
  EXPECT_THAT(first.answer(), HasSubstr("waited"));
}

TEST_F(ListenerTest, WithoutDescriptorsAnIdleConnectionGivesWay) {
  ODMOE_SKIP_WITHOUT_DESCRIPTORS();
  start({});
  const Client idle(port_);
  ASSERT_TRUE(idle.send(get("/")));
  EXPECT_THAT(idle.answer(), HasSubstr("hello"));
  // An answer reaches its client a moment before its connection is idle.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const Descriptors one_left(1);
  const Client fresh(port_);
  ASSERT_TRUE(fresh.send(get("/")));
  EXPECT_THAT(fresh.answer(), HasSubstr("hello"));
  EXPECT_EQ(idle.rest(), "");
}

TEST_F(ListenerTest, EndsWhileConnectionsIdle) {
  start({.keep_alive = 2 * odmoe::testing::kDeadline});
  const Client idle(port_);
  ASSERT_TRUE(idle.connected());
  const Client half(port_);
  half.half_close();
  ASSERT_TRUE(until_connections(1));       // the half one has been seen and ended, the idle one is served
  listener_->stop(std::chrono::hours(1));  // before deadline_, so without waiting for the idle one's time
  EXPECT_EQ(listener_->connections(), 0);
  EXPECT_EQ(idle.rest(), "");
}

}  // namespace
}  // namespace odmoe::server
