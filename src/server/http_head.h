// The head of an HTTP/1 request: its first line and its header fields, read to the letter of RFC 9112.
//
// Where two readers of one head could disagree on what it says (whose host it is, where its body ends), it is
// refused rather than guessed at.  What passes goes to the HTTP library written anew, so that the library
// sees no other spelling than one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/api_error.h"

namespace odmoe::server {

struct HttpHead {
  enum class Body { kNone, kLength, kChunked };

  std::string method;
  std::string target;  // from its "/" on, or "*"; what an absolute target says of the host is in fields
  bool http_1_0 = false;
  std::vector<std::pair<std::string, std::string>> fields;  // in order, without space around the values
  Body body = Body::kNone;
  uint64_t content_length = 0;
  bool close = false;             // the client wants no other answer on this connection
  bool expects_continue = false;  // it sends the body when it is told to

  // The first field of that name, in any letters; null: none.
  const std::string* find(std::string_view name) const;
};

// One owner.  Takes the bytes of a head as they come.
class HeadParser {
 public:
  // How many of the bytes belong to the head: all of them until it is done().  400 for what is not a head,
  // 405 for a method that nobody has, 414 and 431 for what is too large; nothing can be taken after that.
  ApiResult<size_t> take(std::string_view bytes);
  bool done() const { return done_; }
  bool empty() const { return bytes_ == 0; }
  // Once it is done().
  HttpHead head() && { return std::move(head_); }

 private:
  ApiStatus take_byte(char c);
  ApiStatus end_line();
  ApiStatus request_line();
  ApiStatus field();
  ApiStatus finish();
  ApiStatus settle_body();

  HttpHead head_;
  std::string line_;
  std::string authority_;  // of an absolute target
  size_t bytes_ = 0, empty_lines_ = 0;
  bool has_request_line_ = false, after_cr_ = false, done_ = false;
};

// The head as the library is to read it: without a body and without what the library must not act on, since
// bodies, the end of connections and "Expect" are seen to outside of it.  `path` takes the place of the
// target's.
std::string head_for_library(const HttpHead& head, std::string_view path);

}  // namespace odmoe::server
