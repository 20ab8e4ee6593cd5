#include "server/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>

#include "server/api_error.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kReadBytes = 16 * 1024;

thread_local bool close_connection = false;

// Whether the socket is ready for `events` before `limit`.
bool wait_for(socket_t socket, short events, Clock::time_point limit) {
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(limit - Clock::now()).count();
    if (left < 0) return false;
    pollfd entry{.fd = socket, .events = events, .revents = 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::min<int64_t>(left + 1, 60'000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

void address_of(const sockaddr_storage& storage, std::string& ip, int& port) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (storage.ss_family == AF_INET) {
    sockaddr_in address{};
    std::memcpy(&address, &storage, sizeof(address));
    inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size());
    port = ntohs(address.sin_port);
  } else if (storage.ss_family == AF_INET6) {
    sockaddr_in6 address{};
    std::memcpy(&address, &storage, sizeof(address));
    inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
    port = ntohs(address.sin6_port);
  }
  ip = text.data();
}

// One connection.  A request must come at kSlowestBytesPerSecond or faster once its grace has passed.
class BoundedStream final : public httplib::Stream {
 public:
  BoundedStream(socket_t socket, const ConnectionLimits& limits) : socket_(socket), limits_(limits) {}

  // Waits for the next request's first byte.
  bool wait_for_request(Clock::time_point limit) { return begin_ < end_ || wait_for(socket_, POLLIN, limit); }
  void start_request() {
    started_ = Clock::now();
    received_ = 0;
  }

  bool is_readable() const override { return begin_ < end_; }
  bool wait_readable() const override { return begin_ < end_ || wait_for(socket_, POLLIN, read_limit()); }
  bool wait_writable() const override {
    const bool writable = wait_for(socket_, POLLOUT, Clock::now() + limits_.write_timeout);
    broken_ = broken_ || !writable;
    return writable;
  }
  // Whether all that was read and written went through.
  bool sound() const { return !broken_ && get_error() == httplib::Error::Success; }

  ssize_t read(char* data, size_t size) override {
    if (begin_ == end_) {
      if (Clock::now() >= read_limit() || !wait_readable()) {
        error_ = httplib::Error::Timeout;
        return -1;
      }
      const ssize_t n = receive();
      if (n <= 0) return n;
    }
    const size_t n = std::min(size, end_ - begin_);
    std::memcpy(data, buffer_.data() + begin_, n);
    begin_ += n;
    return static_cast<ssize_t>(n);
  }

  // All of it or nothing: a client that takes none of it for the limit is gone.
  ssize_t write(const char* data, size_t size) override {
    size_t done = 0;
    while (done < size) {
      if (!wait_for(socket_, POLLOUT, Clock::now() + limits_.write_timeout)) {
        error_ = httplib::Error::Timeout;
        return -1;
      }
      const ssize_t n = send(socket_, data + done, size - done, MSG_DONTWAIT);
      if (n > 0) {
        done += static_cast<size_t>(n);
      } else if (n < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
        error_ = httplib::Error::Write;
        return -1;
      }
    }
    return static_cast<ssize_t>(size);
  }

  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    if (getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0)
      address_of(address, ip, port);
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    if (getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0)
      address_of(address, ip, port);
  }
  socket_t socket() const override { return socket_; }
  time_t duration() const override { return 0; }

 private:
  Clock::time_point read_limit() const {
    return started_ + limits_.grace + std::chrono::milliseconds(received_ * 1000 / kSlowestBytesPerSecond);
  }
  ssize_t receive() {
    while (true) {
      const ssize_t n = recv(socket_, buffer_.data(), buffer_.size(), 0);
      if (n < 0 && errno == EINTR) continue;
      begin_ = 0;
      end_ = n > 0 ? static_cast<size_t>(n) : 0;
      received_ += end_;
      if (n <= 0) error_ = n == 0 ? httplib::Error::ConnectionClosed : httplib::Error::Read;
      return n;
    }
  }

  socket_t socket_;
  ConnectionLimits limits_;
  Clock::time_point started_ = Clock::now();
  uint64_t received_ = 0;  // of this request
  mutable bool broken_ = false;
  std::array<char, kReadBytes> buffer_{};
  size_t begin_ = 0, end_ = 0;  // what of buffer_ has not been read
};

}  // namespace

void Listener::close_after_answer() { close_connection = true; }

Listener::Listener(const ConnectionLimits& limits) : limits_(limits) {
  new_task_queue = [n = limits.connections] {
    return new httplib::ThreadPool(std::min<size_t>(n, 4), n + kRefusalThreads, kListenBacklog);
  };
  set_tcp_nodelay(true);  // a token is a packet
  set_keep_alive_max_count(kKeepAliveRequests);
}

int Listener::bind(const std::string& host, int port) {
  // The library lets many processes share a port, and then half of the requests go to the other server.
  set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  });
  if (port == 0) {
    port = bind_to_any_port(host);
  } else if (!bind_to_port(host, port)) {
    return -1;
  }
  // The library's backlog of 5 loses connections that come together.
  if (port > 0) ::listen(svr_sock_, kListenBacklog);
  return port;
}

bool Listener::process_and_close_socket(socket_t socket) {
  const size_t before = connections_.fetch_add(1);
  bool ok = false;
  if (before < limits_.connections) {
    ok = serve(socket);
  } else {
    const std::string body = error_json({.status = 503,
                                         .type = "server_error",
                                         .message = "there are too many connections: try again, or start the "
                                                    "server with a larger --max-connections",
                                         .code = "too_many_connections"});
    const std::string answer = std::format(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {}\r\n"
        "Retry-After: 1\r\nConnection: close\r\n\r\n{}",
        body.size(), body);
    BoundedStream(socket, limits_).write(answer.data(), answer.size());
  }
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
  connections_.fetch_sub(1);
  return ok;
}

bool Listener::serve(socket_t socket) {
  BoundedStream stream(socket, limits_);
  std::string remote, local;
  int remote_port = 0, local_port = 0;
  stream.get_remote_ip_and_port(remote, remote_port);
  stream.get_local_ip_and_port(local, local_port);
  bool ok = false;
  for (size_t left = keep_alive_max_count_; left > 0; --left) {
    // In short waits, so that a connection that idles does not delay the end.
    const Clock::time_point limit = Clock::now() + kKeepAlive;
    while (!stream.wait_for_request(std::min(limit, Clock::now() + std::chrono::milliseconds(200)))) {
      if (svr_sock_ == INVALID_SOCKET || Clock::now() >= limit) return ok;
    }
    stream.start_request();
    bool closed = false;
    close_connection = false;
    bool understood = false;
    ok = process_request(stream, remote, remote_port, local, local_port, left == 1, closed,
                         [&](httplib::Request&) { understood = true; });
    // Behind a request that was not understood nobody knows where the next one begins.
    const bool sound = understood && stream.sound();
    if (!ok || closed || close_connection || !sound) break;
  }
  return ok;
}

}  // namespace odmoe::server
