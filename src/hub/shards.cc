#include "hub/shards.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace odmoe::hub {
namespace {

constexpr std::string_view kEnding = ".gguf";
constexpr size_t kDigits = 5;

char small(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

std::optional<int> shard_number(std::string_view digits) {
  int number = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || stop != digits.data() + digits.size() || number < 1) return std::nullopt;
  return number;
}

}  // namespace

bool is_gguf(std::string_view path) {
  return path.size() > kEnding.size() &&
         std::ranges::equal(path.substr(path.size() - kEnding.size()), kEnding, {}, small);
}

Shard shard_of(std::string_view path) {
  Shard shard{.stem = std::string(path)};
  if (!is_gguf(path)) return shard;
  path.remove_suffix(kEnding.size());
  shard.stem = path;
  constexpr std::string_view kOf = "-of-";
  constexpr size_t kTail = 1 + kDigits + kOf.size() + kDigits;  // -00001-of-00003
  if (path.size() <= kTail) return shard;
  const std::string_view tail = path.substr(path.size() - kTail);
  const auto number = shard_number(tail.substr(1, kDigits)),
             count = shard_number(tail.substr(kTail - kDigits));
  if (tail.front() != '-' || tail.substr(1 + kDigits, kOf.size()) != kOf || !number || !count ||
      *number > *count) {
    return shard;
  }
  path.remove_suffix(kTail);
  return {.stem = std::string(path), .number = *number, .count = *count};
}

}  // namespace odmoe::hub
