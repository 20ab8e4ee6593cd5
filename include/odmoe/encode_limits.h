// What may be spent on turning a text into tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>

namespace odmoe {

// Text is worked through piece by piece, and ends where one of these is met: kBudget for what is too large,
// kInterrupted for goes_on.  Without limits there is no error.
struct EncodeLimits {
  size_t tokens = std::numeric_limits<size_t>::max();
  // Of a run of text that nothing divides before it is made into tokens; merging takes
  // kMergeBytesPerByte of memory for each byte of the longest.
  size_t word_bytes = std::numeric_limits<size_t>::max();
  // Asked some times in a millisecond; false: end.  Empty: to the end.
  std::function<bool()> goes_on = {};  // NOLINT(readability-redundant-member-init)
};
inline constexpr size_t kMergeBytesPerByte = 16;

}  // namespace odmoe
