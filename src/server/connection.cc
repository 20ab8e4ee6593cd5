#include "server/connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace odmoe::server {
namespace {

using Clock = Connection::Clock;

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

bool would_block(int error) { return error == EINTR || error == EAGAIN || error == EWOULDBLOCK; }

}  // namespace

Connection::Connection(socket_t socket, const ConnectionLimits& limits, Reading reading)
    : socket_(socket), limits_(limits), reading_(std::move(reading)) {}

bool Connection::wait_for_request(Clock::time_point limit) {
  return begin_ < end_ || (fill(limit) && begin_ < end_);
}

Clock::time_point Connection::read_limit() const {
  return started_ + limits_.grace + std::chrono::milliseconds(received_ * 1000 / kSlowestBytesPerSecond);
}

// More into the empty buffer; false at the client's end, at the limit, or when it is broken.
bool Connection::fill(Clock::time_point limit) {
  while (!at_end_ && wait_for(socket_, POLLIN, limit)) {
    const ssize_t n = recv(socket_, buffer_.data(), buffer_.size(), 0);
    if (n < 0 && would_block(errno)) continue;
    if (n <= 0) {
      at_end_ = true;
      break;
    }
    begin_ = 0;
    end_ = static_cast<size_t>(n);
    received_ += end_;
    return true;
  }
  return false;
}

ApiResult<bool> Connection::read_head(const Paths& paths) {
  started_ = Clock::now();
  received_ = end_ - begin_;
  body_failed_ = asked_for_body_ = false;
  chunks_ = {};
  for_library_.clear();
  given_ = 0;
  HeadParser parser;
  while (!parser.done()) {
    if (begin_ == end_ && !fill(read_limit())) {
      if (at_end_) return false;
      return std::unexpected(ApiError{.status = 408,
                                      .fault = Fault::kRequest,
                                      .message = "the request did not come in time",
                                      .code = "request_too_slow"});
    }
    ODMOE_ASSIGN_OR_RETURN(const size_t used, parser.take(buffered()));
    begin_ += used;
  }
  head_ = std::move(parser).head();
  length_left_ = head_.content_length;
  const std::string_view target = head_.target;
  const std::string_view path = target.substr(0, target.find('?'));
  for_library_ = head_for_library(head_, paths ? paths(path) : std::string(path));
  return true;
}

bool Connection::body_done() const {
  switch (head_.body) {
    case HttpHead::Body::kLength:
      return length_left_ == 0;
    case HttpHead::Body::kChunked:
      return chunks_.done();
    default:
      return true;
  }
}

// What of the buffer belongs to the body.
ApiStatus Connection::take_body(std::string& data, size_t max_bytes) {
  if (head_.body == HttpHead::Body::kChunked) {
    ODMOE_ASSIGN_OR_RETURN(const size_t used, chunks_.take(buffered(), data, max_bytes));
    begin_ += used;
    return {};
  }
  const size_t n = static_cast<size_t>(std::min<uint64_t>(length_left_, end_ - begin_));
  data.append(buffered().substr(0, n));
  begin_ += n;
  length_left_ -= n;
  return {};
}

void Connection::ask_for_body() {
  if (!head_.expects_continue || std::exchange(asked_for_body_, true)) return;
  constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  write(kContinue.data(), kContinue.size());
}

// What the server does meanwhile is not the client's fault.
ApiStatus Connection::at_no_cost(const std::function<ApiStatus()>& work) {
  const Clock::time_point before = Clock::now();
  const ApiStatus status = work();
  started_ += Clock::now() - before;
  return status;
}

ApiResult<std::string> Connection::read_body(size_t max_bytes, const TakeMemory& take) {
  if (head_.content_length > max_bytes) return std::unexpected(from_status(413));
  std::string data;
  // Addresses alone, which become memory as they are written: it is never moved as it grows.
  data.reserve(head_.body == HttpHead::Body::kChunked ? max_bytes : head_.content_length);
  uint64_t taken = 0;
  const auto take_memory = [&]() -> ApiStatus {
    const uint64_t wanted = data.size() + buffered().size();
    if (wanted <= taken) return {};
    return at_no_cost([&] { return take(wanted - std::exchange(taken, wanted)); });
  };
  ODMOE_RETURN_IF_ERROR(read_body_into(data, max_bytes, take_memory, {}));
  return data;
}

ApiStatus Connection::read_body_in_pieces(size_t max_bytes, const TakePiece& take) {
  if (head_.content_length > max_bytes) return std::unexpected(from_status(413));
  std::string piece;
  return read_body_into(piece, max_bytes, {}, [&]() -> ApiStatus {
    const ApiStatus status = at_no_cost([&] { return take(piece); });
    piece.clear();
    return status;
  });
}

// `before` what is in the buffer is taken, and `after` it: either may be empty.
ApiStatus Connection::read_body_into(std::string& data, size_t max_bytes,
                                     const std::function<ApiStatus()>& before,
                                     const std::function<ApiStatus()>& after) {
  const auto failed = [&](ApiError error) {
    body_failed_ = true;
    return std::unexpected(std::move(error));
  };
  const bool may_read = reading_(true);
  while (!body_done()) {
    if (begin_ == end_) {
      if (may_read) ask_for_body();
      if (!may_read || !fill(read_limit())) {
        // Either the server ends, and then it did not let this one be read, or the client did.
        if (!reading_(false)) {
          return failed({.status = 503,
                         .fault = Fault::kServer,
                         .message = "the server is shutting down",
                         .code = "shutting_down",
                         .retry_after_s = 10});
        }
        if (at_end_) {
          return failed({.status = 400,
                         .fault = Fault::kRequest,
                         .message = "the request's body ends before it is whole"});
        }
        return failed({.status = 408,
                       .fault = Fault::kRequest,
                       .message = "the request's body did not come in time",
                       .code = "request_too_slow"});
      }
    }
    ApiStatus status = before ? before() : ApiStatus();
    if (status.has_value()) status = take_body(data, max_bytes);
    if (status.has_value() && after) status = after();
    if (!status.has_value()) {
      reading_(false);
      return failed(status.error());
    }
  }
  reading_(false);
  return {};
}

bool Connection::can_go_on() const {
  if (head_.close || body_failed_ || at_end_ || broken_) return false;
  if (body_done()) return true;
  // A client that was not asked for its body may send it all the same, or not: nobody knows what comes next.
  if (head_.expects_continue && !asked_for_body_) return false;
  return head_.body == HttpHead::Body::kLength && length_left_ <= kMaxSkippedBytes;
}

bool Connection::skip_rest() {
  std::string rest;
  if (!body_done() && !reading_(true)) return false;
  while (!body_done()) {
    if (begin_ == end_ && !fill(read_limit())) return false;
    if (!take_body(rest, kMaxSkippedBytes).has_value()) return false;
    rest.clear();
  }
  return true;
}

bool Connection::unread() const {
  if (at_end_ || broken_) return false;
  return begin_ < end_ || !body_done() || body_failed_ || wait_for(socket_, POLLIN, Clock::now());
}

std::string error_answer(const ApiError& error, const ErrorWords& words) {
  const Body body = words(error);
  std::string answer =
      odmoe::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n", error.status,
                    httplib::status_message(error.status), body.type, body.text.size());
  if (error.retry_after_s > 0) answer += odmoe::format("Retry-After: {}\r\n", error.retry_after_s);
  return answer + "Connection: close\r\n\r\n" + body.text;
}

bool Connection::answer(const ApiError& error, const ErrorWords& words) {
  const std::string text = error_answer(error, words);
  return write(text.data(), text.size()) > 0;
}

void Connection::linger() {
  ::shutdown(socket_, SHUT_WR);
  const Clock::time_point limit = Clock::now() + limits_.linger;
  for (size_t left = kMaxLingerBytes; left > 0 && fill(limit); left -= std::min(left, end_)) {
  }
}

ssize_t Connection::read(char* data, size_t size) {
  // The library reads the head alone, and finds the end behind it.
  const size_t n = std::min(size, for_library_.size() - given_);
  std::memcpy(data, for_library_.data() + given_, n);
  given_ += n;
  return static_cast<ssize_t>(n);
}

bool Connection::wait_writable() const {
  const bool writable = wait_for(socket_, POLLOUT, Clock::now() + limits_.write_timeout);
  broken_ = broken_ || !writable;
  return writable;
}

ssize_t Connection::write(const char* data, size_t size) {
  size_t done = 0;
  while (done < size) {
    if (!wait_writable()) {
      error_ = httplib::Error::Timeout;
      return -1;
    }
    const ssize_t n = send(socket_, data + done, size - done, MSG_DONTWAIT);
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (n < 0 && !would_block(errno)) {
      broken_ = true;
      error_ = httplib::Error::Write;
      return -1;
    }
  }
  return static_cast<ssize_t>(size);
}

void Connection::get_remote_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getpeername(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0)
    address_of(address, ip, port);
}

void Connection::get_local_ip_and_port(std::string& ip, int& port) const {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0)
    address_of(address, ip, port);
}

}  // namespace odmoe::server
