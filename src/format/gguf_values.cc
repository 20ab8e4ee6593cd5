#include "format/gguf_values.h"

#include <cstring>
#include <string>
#include <utility>
#include <variant>

#include "format/printable.h"

namespace odmoe::gguf {
namespace {

class Encoder {
 public:
  template <typename T>
  void number(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    values_.bytes.insert(values_.bytes.end(), bytes, bytes + sizeof(T));
  }
  void text(std::string_view text) {
    number<uint64_t>(text.size());
    const auto bytes = std::as_bytes(std::span(text));
    values_.bytes.insert(values_.bytes.end(), bytes.begin(), bytes.end());
  }
  void integer(gguf_type type, int64_t value) {
    switch (type) {
      case GGUF_TYPE_UINT8:
      case GGUF_TYPE_INT8:
      case GGUF_TYPE_BOOL:
        return number(static_cast<uint8_t>(value));
      case GGUF_TYPE_UINT16:
      case GGUF_TYPE_INT16:
        return number(static_cast<uint16_t>(value));
      case GGUF_TYPE_UINT32:
      case GGUF_TYPE_INT32:
        return number(static_cast<uint32_t>(value));
      default:
        return number(value);
    }
  }
  void entry(const MetadataEntry& entry) {
    text(entry.key);
    keys_.push_back({.offset = values_.bytes.size() - entry.key.size(), .bytes = entry.key.size()});
    Value place{.type = entry.type, .is_array = entry.is_array};
    number(static_cast<uint32_t>(entry.is_array ? GGUF_TYPE_ARRAY : entry.type));
    if (entry.is_array) {
      place.count = std::visit([](const auto& elements) { return elements.size(); }, entry.elements);
      number(static_cast<uint32_t>(entry.type));
      number(place.count);
    }
    place.offset = values_.bytes.size();
    values_.entries.push_back({.key = {}, .value = place});
    if (const auto* integers = std::get_if<MetadataEntry::Integers>(&entry.elements)) {
      for (const int64_t value : *integers) integer(entry.type, value);
    } else if (const auto* floats = std::get_if<MetadataEntry::Floats>(&entry.elements)) {
      for (const double value : *floats) {
        if (entry.type == GGUF_TYPE_FLOAT32) {
          number(static_cast<float>(value));
        } else {
          number(value);
        }
      }
    } else {
      for (const std::string& value : std::get<MetadataEntry::Strings>(entry.elements)) text(value);
    }
  }
  // A key that is there twice is an error.
  Result<Values> take(const std::string& name) && {
    if (const auto twice = values_.set_keys(keys_)) {
      return fail(ErrorKind::kBadFile, "{} is damaged: it has key '{}' twice; convert the model again", name,
                  printable(*twice));
    }
    return std::move(values_);
  }

 private:
  Values values_;
  std::vector<KeySpan> keys_;
};

}  // namespace

const Value* Values::find(std::string_view key) const {
  const auto it = index.find(key);
  return it == index.end() ? nullptr : &entries[it->second].value;
}

std::optional<std::string_view> Values::set_keys(std::span<const KeySpan> keys) {
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto* text = reinterpret_cast<const char*>(bytes.data() + keys[i].offset);
    entries[i].key = std::string_view(text, keys[i].bytes);
    if (!index.emplace(entries[i].key, i).second) return entries[i].key;
  }
  return std::nullopt;
}

Result<Values> encode(std::span<const MetadataEntry> entries, const std::string& name) {
  if (entries.size() > kMaxKeys) {
    return fail(ErrorKind::kBadFile, "{} is damaged: it has {} keys, more than {}; convert the model again",
                name, entries.size(), kMaxKeys);
  }
  Encoder encoder;
  for (const char c : std::string_view(GGUF_MAGIC)) encoder.number(c);
  encoder.number<uint32_t>(GGUF_VERSION);
  encoder.number<int64_t>(0);
  encoder.number(static_cast<int64_t>(entries.size()));
  for (const MetadataEntry& entry : entries) {
    if (entry.key.empty() || entry.key.size() > kMaxKeyBytes) {
      return fail(ErrorKind::kBadFile,
                  "{} is damaged: it has a key of {} bytes, not 1 to {}; convert the model again", name,
                  entry.key.size(), kMaxKeyBytes);
    }
    encoder.entry(entry);
  }
  return std::move(encoder).take(name);
}

uint64_t element_bytes(gguf_type type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL:
      return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
      return 2;
    case GGUF_TYPE_UINT32:
    case GGUF_TYPE_INT32:
    case GGUF_TYPE_FLOAT32:
      return 4;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64:
      return 8;
    case GGUF_TYPE_STRING:
    case GGUF_TYPE_ARRAY:
    case GGUF_TYPE_COUNT:
      return 0;
  }
  return 0;
}

std::string_view string_at(std::span<const std::byte> bytes, uint64_t& offset) {
  uint64_t n = 0;
  std::memcpy(&n, bytes.data() + offset, sizeof(n));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data() + offset + sizeof(n)), n);
  offset += sizeof(n) + n;
  return text;
}

}  // namespace odmoe::gguf
