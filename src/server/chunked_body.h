// A body that comes in chunks (RFC 9112, 7.1), read to the letter: whoever reads sizes in a looser way than
// others can be told two requests where the others see one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "server/api_error.h"

namespace odmoe::server {

// One owner.
class ChunkedBody {
 public:
  // How many of the bytes belong to the body: all of them until it is done().  Their data go to the end of
  // `data`.  400 for what is not a chunk, 413 as soon as the data would be more than `max_bytes` together.
  ApiResult<size_t> take(std::string_view bytes, std::string& data, size_t max_bytes);
  bool done() const { return state_ == State::kDone; }

 private:
  enum class State {
    kSize,
    kExtension,
    kSizeEnd,
    kData,
    kDataEnd,
    kDataLineFeed,
    kTrailer,
    kTrailerEnd,
    kDone
  };
  ApiStatus take_byte(char c);

  State state_ = State::kSize;
  uint64_t left_ = 0;      // of the chunk
  uint64_t total_ = 0;     // data so far
  size_t digits_ = 0;      // of the size
  size_t line_bytes_ = 0;  // of an extension, or of the trailers together
  bool line_empty_ = true;
};

}  // namespace odmoe::server
