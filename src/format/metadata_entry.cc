#include "format/metadata_entry.h"

#include <cassert>
#include <cstring>
#include <string_view>

namespace odmoe {
namespace {

class Encoder {
 public:
  template <typename T>
  void number(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof(T));
  }
  void text(std::string_view text) {
    number<uint64_t>(text.size());
    const auto bytes = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
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
    number(static_cast<uint32_t>(entry.is_array ? GGUF_TYPE_ARRAY : entry.type));
    if (entry.is_array) {
      number(static_cast<uint32_t>(entry.type));
      number(std::visit([](const auto& values) { return static_cast<uint64_t>(values.size()); },
                        entry.elements));
    }
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
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace

std::vector<std::byte> encode_gguf(std::span<const MetadataEntry> entries) {
  Encoder encoder;
  for (const char c : std::string_view(GGUF_MAGIC)) encoder.number(c);
  encoder.number<uint32_t>(GGUF_VERSION);
  encoder.number<int64_t>(0);
  encoder.number(static_cast<int64_t>(entries.size()));
  for (const MetadataEntry& entry : entries) encoder.entry(entry);
  return encoder.take();
}

}  // namespace odmoe
