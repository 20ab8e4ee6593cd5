#include "server/chunked_body.h"

#include <algorithm>

#include "base/hex.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

std::unexpected<ApiError> malformed() {
  return std::unexpected(ApiError{.status = 400,
                                  .fault = Fault::kRequest,
                                  .message = "the request's body is not in chunks as its headers say",
                                  .code = "malformed_request"});
}

bool is_text(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte == '\t' || (byte >= 0x20 && byte != 0x7F);
}

}  // namespace

ApiResult<size_t> ChunkedBody::take(std::string_view bytes, std::string& data, size_t max_bytes) {
  size_t used = 0;
  while (used < bytes.size() && !done()) {
    if (state_ != State::kData) {
      const ApiStatus status = take_byte(bytes[used++]);
      if (!status.has_value()) return std::unexpected(status.error());
      continue;
    }
    // By what a chunk says it has, before any of it is kept.
    if (left_ > max_bytes || total_ > max_bytes - left_) return std::unexpected(from_status(413));
    const size_t n = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size() - used));
    data.append(bytes.substr(used, n));
    used += n;
    left_ -= n;
    total_ += n;
    if (left_ == 0) state_ = State::kDataEnd;
  }
  return used;
}

ApiStatus ChunkedBody::take_byte(char c) {
  switch (state_) {
    case State::kSize:
      if (const int digit = hex_digit(c); digit >= 0) {
        if (++digits_ > kMaxChunkDigits) return malformed();
        left_ = left_ * 16 + static_cast<uint64_t>(digit);
        return {};
      }
      if (digits_ == 0 || (c != '\r' && c != ';')) return malformed();
      line_bytes_ = 0;
      state_ = c == '\r' ? State::kSizeEnd : State::kExtension;
      return {};
    case State::kExtension:
      if (c == '\r') {
        state_ = State::kSizeEnd;
        return {};
      }
      return is_text(c) && ++line_bytes_ <= kMaxChunkExtensionBytes ? ApiStatus() : malformed();
    case State::kSizeEnd:
      if (c != '\n') return malformed();
      digits_ = line_bytes_ = 0;
      line_empty_ = true;
      state_ = left_ > 0 ? State::kData : State::kTrailer;
      return {};
    case State::kDataEnd:
      state_ = State::kDataLineFeed;
      return c == '\r' ? ApiStatus() : malformed();
    case State::kDataLineFeed:
      state_ = State::kSize;
      return c == '\n' ? ApiStatus() : malformed();
    case State::kTrailer:
      if (c == '\r') {
        state_ = State::kTrailerEnd;
        return {};
      }
      line_empty_ = false;
      return is_text(c) && ++line_bytes_ <= kMaxTrailerBytes ? ApiStatus() : malformed();
    case State::kTrailerEnd:
      if (c != '\n') return malformed();
      state_ = line_empty_ ? State::kDone : State::kTrailer;
      line_empty_ = true;
      return {};
    default:
      return malformed();
  }
}

}  // namespace odmoe::server
