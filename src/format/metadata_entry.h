// One key of a checkpoint's metadata with its value, in GGUF's types: how metadata travels between formats.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gguf.h"

namespace odmoe {

struct MetadataEntry {
  using Integers = std::vector<int64_t>;  // bools are 0 or 1; u64 has its bits kept
  using Floats = std::vector<double>;     // f32 too
  using Strings = std::vector<std::string>;

  std::string key;
  gguf_type type = GGUF_TYPE_UINT32;  // of the elements, never GGUF_TYPE_ARRAY
  bool is_array = false;
  std::variant<Integers, Floats, Strings> elements;  // that of the type; exactly one unless is_array

  static MetadataEntry u32(std::string key, uint32_t value) {
    return {std::move(key), GGUF_TYPE_UINT32, false, Integers{value}};
  }
  static MetadataEntry f32(std::string key, float value) {
    return {std::move(key), GGUF_TYPE_FLOAT32, false, Floats{value}};
  }
  static MetadataEntry boolean(std::string key, bool value) {
    return {std::move(key), GGUF_TYPE_BOOL, false, Integers{value ? 1 : 0}};
  }
  static MetadataEntry string(std::string key, std::string value) {
    return {std::move(key), GGUF_TYPE_STRING, false, Strings{std::move(value)}};
  }
  static MetadataEntry strings(std::string key, Strings values) {
    return {std::move(key), GGUF_TYPE_STRING, true, std::move(values)};
  }
  static MetadataEntry i32s(std::string key, Integers values) {
    return {std::move(key), GGUF_TYPE_INT32, true, std::move(values)};
  }
  static MetadataEntry f32s(std::string key, Floats values) {
    return {std::move(key), GGUF_TYPE_FLOAT32, true, std::move(values)};
  }

  bool operator==(const MetadataEntry&) const = default;
};

}  // namespace odmoe
