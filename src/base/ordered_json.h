// JSON texts of others as values: in linear time, within bounds that are kept while it is read.
//
// nlohmann's own reader looks through all keys of an object for every one of them, and ends when the text
// does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace odmoe {

// Memory that a value takes is counted as the most that it may come to with all that the library sets aside.
inline constexpr size_t kJsonValueBytes = 48;
inline constexpr size_t kJsonContainerBytes = 48;
inline constexpr size_t kJsonKeyBytes = 160;
// The library keeps a string that it reads several times over, up to so many bytes for one of it.
inline constexpr size_t kJsonReaderBytesPerByte = 4;
// No number that anybody means is longer; the library would keep each digit several times over.
inline constexpr size_t kMaxJsonNumberBytes = 1024;

struct JsonLimits {
  size_t depth = 256;                                 // of arrays and objects in each other
  size_t keys = std::numeric_limits<size_t>::max();   // of one object
  size_t bytes = std::numeric_limits<size_t>::max();  // that the value takes in memory
  // Told how much memory the value will take, before it does, for some hundred values at once; false: end.
  // Empty: nobody asks.
  std::function<bool(size_t bytes)> take;
};

struct JsonError {
  enum class Kind { kSyntax, kDepth, kKeys, kBytes, kEnded };
  Kind kind = Kind::kSyntax;
  std::string message;  // of kSyntax, kDepth: what is wrong and where, without a quotation of the text
};

// Of two members with one key the last counts, where the first stood.
std::expected<nlohmann::ordered_json, JsonError> read_ordered_json(std::string_view text,
                                                                   const JsonLimits& limits = {});

// The most bytes between two quotation marks, whether or not the text is JSON: what the longest string may
// have.
size_t longest_json_string(std::string_view text);

}  // namespace odmoe
