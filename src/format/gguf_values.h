// Metadata as GGUF writes it: the bytes, and where each value lies in them.  What KeyValues keeps, whether it
// was read from a file (gguf_header.h) or is of another origin; a vocabulary takes no more memory than it has
// bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/metadata_entry.h"
#include "gguf.h"
#include "odmoe/result.h"

namespace odmoe::gguf {

inline constexpr uint64_t kMaxKeys = 65536;      // a model has about 50
inline constexpr uint64_t kMaxKeyBytes = 65535;  // the format's own limit

// Where a value lies within Values::bytes.  For an array, `type` and `count` are those of its elements.
struct Value {
  gguf_type type = GGUF_TYPE_UINT8;
  bool is_array = false;
  uint64_t count = 1;
  uint64_t offset = 0;  // of the first element; a string begins with its length in 8 bytes
};

struct KeySpan {
  uint64_t offset = 0;  // in Values::bytes
  uint64_t bytes = 0;
};

struct KeyValue {
  std::string_view key;  // into Values::bytes
  Value value;
};

struct Values {
  Values() = default;
  Values(Values&&) = default;  // the views stay valid: a moved vector keeps its memory
  Values& operator=(Values&&) = default;
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;
  ~Values() = default;

  const Value* find(std::string_view key) const;  // null when absent

  // To be called once `bytes` stays as it is: gives the entries their keys, as many as there are, and makes
  // the index.  A key that is there twice; nothing when all are distinct.
  std::optional<std::string_view> set_keys(std::span<const KeySpan> keys);

  std::vector<std::byte> bytes;              // a GGUF's first ones, to the end of the header
  std::vector<KeyValue> entries;             // in that order, keys distinct and not empty
  std::map<std::string_view, size_t> index;  // by key, into `entries`
};

// The header of a GGUF with these entries in this order and no tensors.  `name` is what errors call what they
// are from.  kBadFile: a key that is there twice, too many of them, one of no or of too many bytes.
Result<Values> encode(std::span<const MetadataEntry> entries, const std::string& name);

// Bytes of one element; 0 for strings, whose length varies, and for what is not an element type.
uint64_t element_bytes(gguf_type type);

// Copies a string's length, then gives its bytes and moves `offset` behind it.  `offset` must be that of a
// string that lies in `bytes` as a whole.
std::string_view string_at(std::span<const std::byte> bytes, uint64_t& offset);

}  // namespace odmoe::gguf
