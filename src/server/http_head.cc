#include "server/http_head.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "base/trim.h"
#include "odmoe/format.h"
#include "server/authority.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

std::unexpected<ApiError> malformed(std::string message) {
  return std::unexpected(ApiError{
      .status = 400, .fault = Fault::kRequest, .message = std::move(message), .code = "malformed_request"});
}
std::unexpected<ApiError> refused(int status, std::string message) {
  return std::unexpected(ApiError{.status = status, .fault = Fault::kRequest, .message = std::move(message)});
}

bool is_token_byte(char c) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c != '\0' && kOthers.contains(c));
}
bool is_value_byte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte == '\t' || (byte >= 0x20 && byte != 0x7F);
}
bool is_target_byte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte > 0x20 && byte != 0x7F && c != '#';
}

char small(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool same(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return small(x) == small(y); });
}

bool has_member(std::string_view list, std::string_view member) {
  while (true) {
    const size_t comma = std::min(list.find(','), list.size());
    if (same(trimmed(list.substr(0, comma), " \t"), member)) return true;
    if (comma == list.size()) return false;
    list.remove_prefix(comma + 1);
  }
}

// Fields of which a second one would leave open which of them counts.
constexpr auto kOnce =
    std::to_array<std::string_view>({"Host", "Content-Length", "Transfer-Encoding", "Content-Type",
                                     "Content-Encoding", "Authorization", "X-Api-Key", "Origin", "Expect"});
// What the library is not shown: framing, which is settled; ranges, which nothing here has; and what nobody
// asks for and it might refuse a request for.
constexpr auto kWithheld = std::to_array<std::string_view>(
    {"Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Expect", "Range", "If-Range",
     "Upgrade", "Accept", "Cookie", "TE", "Trailer"});

bool is_withheld(std::string_view name) {
  return std::ranges::any_of(kWithheld, [&](std::string_view word) { return same(name, word); });
}

std::string_view name_of(std::string_view line) { return line.substr(0, line.find(':')); }

std::unexpected<ApiError> too_large(std::string_view name) {
  constexpr size_t kMostNamed = 40;
  const bool word = !name.empty() && name.size() <= kMostNamed && std::ranges::all_of(name, is_token_byte);
  return refused(431, odmoe::format("the header{}{} of the request is too large: it may have {} bytes",
                                    word ? " " : "", word ? name : "", kMaxFieldBytes));
}

}  // namespace

const std::string* HttpHead::find(std::string_view name) const {
  const auto found = std::ranges::find_if(fields, [&](const auto& field) { return same(field.first, name); });
  return found == fields.end() ? nullptr : &found->second;
}

ApiResult<size_t> HeadParser::take(std::string_view bytes) {
  size_t used = 0;
  while (used < bytes.size() && !done_) {
    const ApiStatus status = take_byte(bytes[used]);
    if (!status.has_value()) return std::unexpected(status.error());
    ++used;
  }
  return used;
}

ApiStatus HeadParser::take_byte(char c) {
  if (++bytes_ > kMaxHeadBytes) return refused(431, "the request's headers are too large");
  if (after_cr_) {
    if (c != '\n')
      return malformed("a line of the request's head ends in a carriage return without a line feed");
    after_cr_ = false;
    return end_line();
  }
  if (c == '\r') {
    after_cr_ = true;
    return {};
  }
  if (c == '\n')
    return malformed("a line of the request's head ends in a line feed without a carriage return");
  if (!has_request_line_) {
    // Looked at as it comes, so that what is not HTTP at all is told at once.
    if (line_.empty() && !is_token_byte(c)) {
      return malformed(c == '\x16'
                           ? "this looks like TLS, and the server speaks plain HTTP: use http:// for it"
                           : "the request does not begin with a method");
    }
    if (line_.size() >= kMaxTargetBytes + 32) return refused(414, "the request's address is too long");
  } else if (line_.size() >= kMaxFieldBytes && !is_withheld(name_of(line_))) {
    return too_large(name_of(line_));
  }
  line_ += c;
  return {};
}

ApiStatus HeadParser::end_line() {
  if (line_.empty() && !has_request_line_) {
    // Some clients send an empty line after a body, which then stands before the next request.
    if (++empty_lines_ <= kMaxEmptyLines) return {};
    return malformed("the request begins with empty lines");
  }
  if (line_.empty()) return finish();
  ODMOE_RETURN_IF_ERROR(has_request_line_ ? field() : request_line());
  has_request_line_ = true;
  line_.clear();
  return {};
}

ApiStatus HeadParser::request_line() {
  const std::string_view line = line_;
  const size_t first = line.find(' '), last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return malformed("the request's first line is not METHOD TARGET VERSION");
  }
  const std::string_view method = line.substr(0, first), version = line.substr(last + 1);
  std::string_view target = line.substr(first + 1, last - first - 1);
  if (!std::ranges::all_of(method, is_token_byte)) return malformed("the request's method is not a word");
  if (target.empty() || !std::ranges::all_of(target, is_target_byte)) {
    return malformed("the request's target has a space or another character that is not allowed");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return malformed("the request is not of HTTP/1.1 or HTTP/1.0");
  }
  if (target.size() > kMaxTargetBytes) return refused(414, "the request's address is too long");
  constexpr auto kMethods = std::to_array<std::string_view>(
      {"GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT"});
  if (!std::ranges::contains(kMethods, method)) {
    auto error = refused(405, "this server does not know the request's method");
    error.error().code = "method_not_allowed";
    return error;
  }
  head_.method = method;
  head_.http_1_0 = version == "HTTP/1.0";
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!same(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    const size_t end = std::min(target.find_first_of("/?"), target.size());
    authority_ = target.substr(0, end);
    if (!parse_authority(authority_)) return malformed("the request's target names no host");
    target.remove_prefix(end);
    head_.target = target.starts_with('/') ? std::string(target) : "/" + std::string(target);
    return {};
  }
  if (target == "*" && method == "OPTIONS") {
    head_.target = target;
    return {};
  }
  if (!target.starts_with('/'))
    return malformed("the request's target is neither a path nor an http address");
  head_.target = target;
  return {};
}

ApiStatus HeadParser::field() {
  if (head_.fields.size() >= kMaxFields) return refused(431, "the request has too many headers");
  const std::string_view line = line_;
  if (line.front() == ' ' || line.front() == '\t') {
    return malformed("a header continues on a second line, which HTTP/1.1 does not allow");
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return malformed("a header is not NAME: VALUE");
  const std::string_view name = line.substr(0, colon), value = trimmed(line.substr(colon + 1), " \t");
  if (!std::ranges::all_of(name, is_token_byte)) {
    return malformed("a header's name has a space or another character that is not allowed");
  }
  const size_t shown = line.size() + 2 * static_cast<size_t>(std::ranges::count(value, '%'));
  if (shown > kMaxFieldBytes && !is_withheld(name)) return too_large(name);
  if (!std::ranges::all_of(value, is_value_byte))
    return malformed("a header's value has a control character");
  const bool once = std::ranges::any_of(kOnce, [&](std::string_view word) { return same(name, word); });
  if (once && head_.find(name) != nullptr)
    return malformed(odmoe::format("the request has two headers {}", name));
  head_.fields.emplace_back(name, value);
  return {};
}

ApiStatus HeadParser::finish() {
  // RFC 9112, 3.2.2: an absolute target counts, whatever the field says; but a field there must be.
  const auto host =
      std::ranges::find_if(head_.fields, [](const auto& field) { return same(field.first, "Host"); });
  if (host == head_.fields.end()) {
    if (!head_.http_1_0) return malformed("the request has no header Host");
    if (!authority_.empty()) head_.fields.emplace_back("Host", authority_);
  } else {
    if (!parse_authority(host->second)) return malformed("the header Host names no host");
    if (!authority_.empty()) host->second = authority_;
  }
  ODMOE_RETURN_IF_ERROR(settle_body());
  head_.close = head_.http_1_0;  // which has no other end of an answer whose length nobody knows
  for (const auto& [name, value] : head_.fields) {
    if (same(name, "Connection") && has_member(value, "close")) head_.close = true;
  }
  if (const std::string* expect = head_.find("Expect"); expect != nullptr) {
    if (!same(*expect, "100-continue")) return refused(417, "the header Expect can only be 100-continue");
    head_.expects_continue = !head_.http_1_0 && head_.body != HttpHead::Body::kNone;
  }
  done_ = true;
  return {};
}

ApiStatus HeadParser::settle_body() {
  const std::string* length = head_.find("Content-Length");
  const std::string* encoding = head_.find("Transfer-Encoding");
  if (encoding != nullptr) {
    if (length != nullptr) return malformed("the request has both Content-Length and Transfer-Encoding");
    if (head_.http_1_0) return malformed("Transfer-Encoding is not of HTTP/1.0");
    if (!same(*encoding, "chunked")) return malformed("the header Transfer-Encoding can only be chunked");
    head_.body = HttpHead::Body::kChunked;
    return {};
  }
  if (length == nullptr) return {};
  const bool digits =
      !length->empty() && std::ranges::all_of(*length, [](char c) { return c >= '0' && c <= '9'; });
  const char* end = length->data() + length->size();
  if (!digits || std::from_chars(length->data(), end, head_.content_length).ec != std::errc()) {
    return malformed("the header Content-Length is not a number of bytes");
  }
  if (head_.content_length > 0) head_.body = HttpHead::Body::kLength;
  return {};
}

std::string head_for_library(const HttpHead& head, std::string_view path) {
  std::string text = head.method;
  text += ' ';
  text += path;
  if (const size_t query = head.target.find('?'); query != std::string::npos)
    text += head.target.substr(query);
  text += head.http_1_0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n";
  for (const auto& [name, value] : head.fields) {
    if (is_withheld(name)) continue;
    text += name;
    text += ": ";
    for (const char c : value) {
      // The library takes values for percent-encoded, which they are not.
      if (c == '%') {
        text += "%25";
      } else {
        text += c;
      }
    }
    text += "\r\n";
  }
  text += "Content-Length: 0\r\n";
  if (head.close) text += "Connection: close\r\n";
  return text += "\r\n";
}

}  // namespace odmoe::server
