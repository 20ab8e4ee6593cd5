// A body of the type multipart/form-data (RFC 7578, RFC 2046), read to the letter as it comes.
//
//    --BOUNDARY CRLF headers CRLF CRLF data CRLF --BOUNDARY CRLF ... CRLF --BOUNDARY-- and whatever follows
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "server/api_error.h"

namespace odmoe::server {

struct FormPart {
  std::string name;
  std::optional<std::string> filename;  // as the client says it: never to be used as a path
};

// Takes the parts, one after the other; an error ends the reading and is the answer.
class FormSink {
 public:
  virtual ~FormSink() = default;
  virtual ApiStatus begin(const FormPart& part) = 0;
  virtual ApiStatus data(std::string_view bytes) = 0;  // not empty
  virtual ApiStatus end() = 0;
};

// Holds a few kilobytes, however long a part is.  One owner.
class FormReader {
 public:
  // 415 when the header Content-Type is not of a form, 400 without a boundary.  `sink` outlives it.
  static ApiResult<FormReader> create(std::string_view content_type, FormSink& sink);

  // The next bytes of the body.  400 for what is not a form; nothing may follow an error.
  ApiStatus take(std::string_view bytes);
  // 400 when the body ended before the form did.
  ApiStatus finish() const;

 private:
  enum class State { kBeginning, kAfterDelimiter, kHeaders, kData, kEnded };
  FormReader(std::string_view boundary, FormSink& sink);
  ApiResult<bool> step();
  ApiResult<bool> take_beginning();
  ApiResult<bool> take_after_delimiter();
  ApiResult<bool> take_headers();
  ApiResult<bool> take_data();

  FormSink* sink_;
  std::string delimiter_;  // CRLF--BOUNDARY
  State state_ = State::kBeginning;
  std::string held_;         // came and is not taken yet
  bool data_begun_ = false;  // the end of the last header's line is gone
  size_t n_part_ = 0;
};

}  // namespace odmoe::server
