// Writes small GGUF files for tests: sound ones and, through the raw setters, damaged ones.
//
//   GgufWriter()
//       .set("general.architecture", "qwen3moe")
//       .set("qwen3moe.block_count", uint32_t{2})
//       .add_tensor("output_norm.weight", GGML_TYPE_F32, {64})
//       .write(dir / "model.gguf");
//
// Setters return the writer.  A repeated key or name is written twice: that is for the tests to try.
// Thread-compatible.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ggml.h"
#include "gguf.h"

namespace odmoe::testing {

template <typename T>
constexpr gguf_type gguf_type_of() {
  if constexpr (std::is_same_v<T, uint8_t>) return GGUF_TYPE_UINT8;
  if constexpr (std::is_same_v<T, int8_t>) return GGUF_TYPE_INT8;
  if constexpr (std::is_same_v<T, uint16_t>) return GGUF_TYPE_UINT16;
  if constexpr (std::is_same_v<T, int16_t>) return GGUF_TYPE_INT16;
  if constexpr (std::is_same_v<T, uint32_t>) return GGUF_TYPE_UINT32;
  if constexpr (std::is_same_v<T, int32_t>) return GGUF_TYPE_INT32;
  if constexpr (std::is_same_v<T, uint64_t>) return GGUF_TYPE_UINT64;
  if constexpr (std::is_same_v<T, int64_t>) return GGUF_TYPE_INT64;
  if constexpr (std::is_same_v<T, float>) return GGUF_TYPE_FLOAT32;
  if constexpr (std::is_same_v<T, double>) return GGUF_TYPE_FLOAT64;
  if constexpr (std::is_same_v<T, bool>) return GGUF_TYPE_BOOL;
  return GGUF_TYPE_COUNT;
}

class GgufWriter {
 public:
  explicit GgufWriter(uint32_t version = 3) : version_(version) {}

  template <typename T>
    requires std::is_arithmetic_v<T>
  GgufWriter& set(std::string_view key, T value) {
    static_assert(gguf_type_of<T>() != GGUF_TYPE_COUNT, "no such type in GGUF");
    return set_raw(key, gguf_type_of<T>(), std::as_bytes(std::span(&value, 1)));
  }
  GgufWriter& set(std::string_view key, std::string_view text);
  GgufWriter& set(std::string_view key, const char* text) { return set(key, std::string_view(text)); }

  template <typename T>
    requires std::is_arithmetic_v<T>
  GgufWriter& set_array(std::string_view key, const std::vector<T>& values) {
    static_assert(gguf_type_of<T>() != GGUF_TYPE_COUNT && !std::is_same_v<T, bool>, "no such type in GGUF");
    return set_raw_array(key, gguf_type_of<T>(), values.size(), std::as_bytes(std::span(values)));
  }
  GgufWriter& set_array(std::string_view key, const std::vector<std::string>& values);

  // Sets general.alignment and keeps to it.
  GgufWriter& set_alignment(uint32_t alignment);

  // A value of any type number, sound or not, with these bytes.
  GgufWriter& set_raw(std::string_view key, uint32_t type, std::span<const std::byte> bytes);
  GgufWriter& set_raw_array(std::string_view key, uint32_t element_type, uint64_t count,
                            std::span<const std::byte> bytes);
  GgufWriter& remove(std::string_view key);

  // A tensor whose bytes are a pattern that depends on name and position.
  GgufWriter& add_tensor(std::string_view name, ggml_type type, std::vector<int64_t> ne);
  // A tensor with these bytes; they need not be as many as shape and type ask for.
  GgufWriter& add_tensor(std::string_view name, ggml_type type, std::vector<int64_t> ne,
                         std::vector<std::byte> data);
  // A tensor without bytes: write() makes a file of the full size with a hole in it, which takes no room on
  // the drive and reads as zeros.  A model has only such tensors or none; bytes() and split() leave them out.
  GgufWriter& add_hole(std::string_view name, ggml_type type, std::vector<int64_t> ne);
  // A tensor of these values, quantised to `type` by ggml.
  GgufWriter& add_values(std::string_view name, ggml_type type, std::vector<int64_t> ne,
                         std::span<const float> values);
  // Writes the last tensor's offset within the data as this, wherever its bytes really are.
  GgufWriter& override_offset(uint64_t offset);
  // Replaces bytes of a tensor that was added, from `offset` within it on.
  GgufWriter& damage(std::string_view name, uint64_t offset, std::span<const std::byte> bytes);
  // Writes the last tensor's type as this number.
  GgufWriter& override_type(uint32_t type);

  // Rows of `row` values each as ggml quantises them; of types for which that takes long some rows, over and
  // over.
  static void quantize(ggml_type type, std::span<const float> values, int64_t row,
                       std::span<std::byte> bytes);
  // The bytes of a tensor of that shape and type.
  static uint64_t tensor_bytes(ggml_type type, std::span<const int64_t> ne);

  // A field of the header and where it lies in the file.
  struct Field {
    std::string what;  // "general.name: type"
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };

  std::vector<std::byte> bytes() const { return serialize(nullptr); }
  std::vector<Field> fields() const;
  uint64_t header_bytes() const;  // without the padding before the data
  void write(const std::filesystem::path& path) const;

  // The same model in shards: the tensors dealt out in order, all metadata in the first shard, the split's
  // own keys in each.  The shards can be changed before they are written.
  std::vector<GgufWriter> split(int n_shard) const;
  // DIR/STEM-00001-of-00003.gguf for shard 0 of 3.
  static std::filesystem::path split_path(const std::filesystem::path& directory, std::string_view stem,
                                          int shard, int n_shard);
  // Splits, writes all shards and returns their paths.
  std::vector<std::filesystem::path> write_split(const std::filesystem::path& directory,
                                                 std::string_view stem, int n_shard) const;

 private:
  struct KeyValue {
    std::string key;
    uint32_t type = 0;
    std::optional<uint32_t> element_type;  // of an array
    uint64_t count = 1;
    std::vector<std::byte> bytes;
  };
  struct Tensor {
    std::string name;
    uint32_t type = 0;
    std::vector<int64_t> ne;
    std::vector<std::byte> data;
    std::optional<uint64_t> offset;
    uint64_t hole_bytes = 0;
  };

  std::vector<std::byte> serialize(std::vector<Field>* fields) const;

  uint32_t version_;
  uint64_t alignment_ = GGUF_DEFAULT_ALIGNMENT;
  std::vector<KeyValue> values_;
  std::vector<Tensor> tensors_;
};

}  // namespace odmoe::testing
