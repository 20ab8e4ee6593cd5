#include "server/listener.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <thread>
#include <vector>

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { ::close(socket_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  bool connected() const { return connected_; }
  bool send(std::string_view text) const {
    return ::send(socket_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size());
  }
  void half_close() const { ::shutdown(socket_, SHUT_WR); }
  // All until the other side closes.
  std::string rest() const {
    std::string text;
    std::array<char, 4096> buffer{};
    for (ssize_t n = 0; (n = ::recv(socket_, buffer.data(), buffer.size(), 0)) > 0;) {
      text.append(buffer.data(), static_cast<size_t>(n));
    }
    return text;
  }

 private:
  int socket_;
  bool connected_ = false;
};

class ListenerTest : public ::testing::Test {
 protected:
  void start(const ConnectionLimits& limits) {
    listener_ = std::make_unique<Listener>(limits);
    listener_->Get("/", [](const httplib::Request&, httplib::Response& response) {
      response.set_content("hello", "text/plain");
    });
    listener_->Get("/large", [this](const httplib::Request&, httplib::Response& response) {
      response.set_chunked_content_provider(
          "text/plain",
          [](size_t, httplib::DataSink& sink) {
            const std::string data(1 << 16, 'x');
            return sink.write(data.data(), data.size());
          },
          [this](bool success) { gave_up_ = !success; });
    });
    port_ = listener_->bind("127.0.0.1", 0);
    ASSERT_GT(port_, 0);
    thread_ = std::thread([this] { listener_->listen_after_bind(); });
    listener_->wait_until_ready();
  }
  void TearDown() override {
    listener_->stop();
    thread_.join();
  }
  std::unique_ptr<Listener> listener_;
  std::thread thread_;
  std::atomic<bool> gave_up_ = false;
  int port_ = 0;
};

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
  client.rest();  // comes to an end long before the dripping would
  EXPECT_LT(listener_->connections(), 2);
  dripping.join();
}

TEST_F(ListenerTest, AClientThatDoesNotReadIsDropped) {
  start({.write_timeout = std::chrono::milliseconds(200)});
  const Client client(port_);
  ASSERT_TRUE(client.send("GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  while (!gave_up_) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

TEST_F(ListenerTest, ConnectionsBeyondTheLimitAreToldSo) {
  start({.connections = 2});
  std::vector<std::unique_ptr<Client>> held;
  for (int i = 0; i < 2; ++i) {
    held.push_back(std::make_unique<Client>(port_));
    ASSERT_TRUE(held.back()->send("GET / HTTP/1.1\r\n"));
  }
  while (listener_->connections() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const Client refused(port_);
  const std::string answer = refused.rest();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(answer, HasSubstr("Retry-After"));
  EXPECT_THAT(answer, HasSubstr("too_many_connections"));
  held.clear();
  while (listener_->connections() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const Client served(port_);
  ASSERT_TRUE(served.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
  EXPECT_THAT(served.rest(), HasSubstr("hello"));
}

TEST_F(ListenerTest, EndsWhileConnectionsIdle) {
  start({});
  const Client idle(port_);
  ASSERT_TRUE(idle.connected());
  const Client half(port_);
  half.half_close();
}  // TearDown() ends it, without waiting for kKeepAlive

}  // namespace
}  // namespace odmoe::server
