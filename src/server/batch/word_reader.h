// Takes words off the front of a line of ours.
#pragma once

#include <bit>
#include <charconv>
#include <cstdint>
#include <string_view>
#include <system_error>

namespace odmoe::server {

// What take(), number() and logprob() do not find stays where it is.  One owner; the text must outlive it.
class WordReader {
 public:
  explicit WordReader(std::string_view text) : rest_(text) {}
  bool take(char c) {
    if (!rest_.starts_with(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  template <typename T>
  bool number(T& value, int base = 10) {
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
    if (error != std::errc()) return false;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    return true;
  }
  // Its bits, in hexadecimal.
  bool logprob(float& value) {
    uint32_t bits = 0;
    if (!number(bits, 16)) return false;
    value = std::bit_cast<float>(bits);
    return true;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

}  // namespace odmoe::server
