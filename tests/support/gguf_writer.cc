#include "gguf_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <fstream>
#include <numeric>
#include <random>

#include "odmoe/format.h"

namespace odmoe::testing {
namespace {

class Out {
 public:
  explicit Out(std::vector<GgufWriter::Field>* fields) : fields_(fields) {}

  void raw(std::string what, std::span<const std::byte> bytes) {
    if (fields_ != nullptr)
      fields_->push_back({.what = std::move(what), .offset = out_.size(), .bytes = bytes.size()});
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  template <typename T>
  void number(std::string what, T value) {
    raw(std::move(what), std::as_bytes(std::span(&value, 1)));
  }
  void text(const std::string& what, std::string_view text) {
    number(what + ": length", static_cast<uint64_t>(text.size()));
    raw(what + ": text", std::as_bytes(std::span(text)));
  }
  void pad(uint64_t alignment) { out_.resize((out_.size() + alignment - 1) / alignment * alignment); }
  void data(std::span<const std::byte> bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  std::vector<std::byte> take() { return std::move(out_); }

 private:
  std::vector<GgufWriter::Field>* fields_;
  std::vector<std::byte> out_;
};

void append_string(std::vector<std::byte>& out, std::string_view text) {
  const uint64_t size = text.size();
  const auto length = std::as_bytes(std::span(&size, 1));
  out.insert(out.end(), length.begin(), length.end());
  const auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

GgufWriter& GgufWriter::set(std::string_view key, std::string_view text) {
  std::vector<std::byte> bytes;
  append_string(bytes, text);
  return set_raw(key, GGUF_TYPE_STRING, bytes);
}

GgufWriter& GgufWriter::set_array(std::string_view key, const std::vector<std::string>& values) {
  std::vector<std::byte> bytes;
  for (const std::string& value : values) append_string(bytes, value);
  return set_raw_array(key, GGUF_TYPE_STRING, values.size(), bytes);
}

GgufWriter& GgufWriter::set_alignment(uint32_t alignment) {
  alignment_ = alignment;
  return set("general.alignment", alignment);
}

GgufWriter& GgufWriter::set_raw(std::string_view key, uint32_t type, std::span<const std::byte> bytes) {
  values_.push_back({.key = std::string(key),
                     .type = type,
                     .element_type = std::nullopt,
                     .count = 1,
                     .bytes = {bytes.begin(), bytes.end()}});
  return *this;
}

GgufWriter& GgufWriter::set_raw_array(std::string_view key, uint32_t element_type, uint64_t count,
                                      std::span<const std::byte> bytes) {
  values_.push_back({.key = std::string(key),
                     .type = GGUF_TYPE_ARRAY,
                     .element_type = element_type,
                     .count = count,
                     .bytes = {bytes.begin(), bytes.end()}});
  return *this;
}

GgufWriter& GgufWriter::remove(std::string_view key) {
  std::erase_if(values_, [key](const KeyValue& value) { return value.key == key; });
  return *this;
}

uint64_t GgufWriter::tensor_bytes(ggml_type type, std::span<const int64_t> ne) {
  uint64_t bytes = ggml_row_size(type, ne.empty() ? 1 : ne[0]);
  for (size_t i = 1; i < ne.size(); ++i) bytes *= static_cast<uint64_t>(ne[i]);
  return bytes;
}

GgufWriter& GgufWriter::add_tensor(std::string_view name, ggml_type type, std::vector<int64_t> ne) {
  std::vector<std::byte> data(tensor_bytes(type, ne));
  uint32_t state = 2166136261U;  // FNV-1a over the name, then a linear congruence over the bytes
  for (const char c : name) state = (state ^ static_cast<uint8_t>(c)) * 16777619U;
  for (std::byte& byte : data) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>(state >> 24U);
  }
  return add_tensor(name, type, std::move(ne), std::move(data));
}

GgufWriter& GgufWriter::add_tensor(std::string_view name, ggml_type type, std::vector<int64_t> ne,
                                   std::vector<std::byte> data) {
  tensors_.push_back({.name = std::string(name),
                      .type = static_cast<uint32_t>(type),
                      .ne = std::move(ne),
                      .data = std::move(data),
                      .offset = std::nullopt});
  return *this;
}

GgufWriter& GgufWriter::add_hole(std::string_view name, ggml_type type, std::vector<int64_t> ne) {
  const uint64_t bytes = tensor_bytes(type, ne);
  add_tensor(name, type, std::move(ne), std::vector<std::byte>{});
  tensors_.back().hole_bytes = bytes;
  return *this;
}

void GgufWriter::quantize(ggml_type type, std::span<const float> values, int64_t row,
                          std::span<std::byte> bytes) {
  // ggml takes seconds to make the tables from which it chooses such values, once in every process.
  constexpr std::array kSlow = {GGML_TYPE_IQ1_S, GGML_TYPE_IQ1_M, GGML_TYPE_IQ2_XXS, GGML_TYPE_IQ2_XS,
                                GGML_TYPE_IQ2_S, GGML_TYPE_IQ3_S, GGML_TYPE_IQ3_XXS};
  if (!std::ranges::contains(kSlow, type)) {
    const std::vector<float> importance(static_cast<size_t>(row), 1.0F);  // some types will not do without
    ggml_quantize_chunk(type, values.data(), bytes.data(), 0, static_cast<int64_t>(values.size()) / row, row,
                        importance.data());
    return;
  }
  std::mt19937 random(std::bit_cast<uint32_t>(values.front()));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() >> 24U);
  // A block of any of them begins with its scale, but for IQ1_M, where that is in the four highest bits of
  // its last four words.
  const ggml_fp16_t scale = ggml_fp32_to_fp16(0.0007F);
  const size_t block = ggml_type_size(type);
  for (size_t i = 0; i < bytes.size(); i += block) {
    if (type != GGML_TYPE_IQ1_M) {
      std::memcpy(&bytes[i], &scale, sizeof scale);
      continue;
    }
    for (size_t word = 0; word < 4; ++word) {
      std::byte& high = bytes[i + block - 8 + 2 * word + 1];
      high = (high & std::byte{0x0F}) | std::byte((scale >> (4 * word) & 0xFU) << 4U);
    }
  }
}

GgufWriter& GgufWriter::add_values(std::string_view name, ggml_type type, std::vector<int64_t> ne,
                                   std::span<const float> values) {
  std::vector<std::byte> data(tensor_bytes(type, ne));
  const int64_t row = ne.empty() ? 1 : ne[0];
  assert(values.size() % static_cast<size_t>(row) == 0);
  const auto n_row = static_cast<int64_t>(values.size()) / row;
  if (type == GGML_TYPE_F32) {
    std::memcpy(data.data(), values.data(), std::min(data.size(), values.size_bytes()));
  } else {
    quantize(type, values.first(static_cast<size_t>(n_row * row)), row, data);
  }
  return add_tensor(name, type, std::move(ne), std::move(data));
}

GgufWriter& GgufWriter::override_offset(uint64_t offset) {
  tensors_.back().offset = offset;
  return *this;
}

GgufWriter& GgufWriter::damage(std::string_view name, uint64_t offset, std::span<const std::byte> bytes) {
  const auto tensor = std::ranges::find(tensors_, name, &Tensor::name);
  assert(tensor != tensors_.end() && offset + bytes.size() <= tensor->data.size());
  std::ranges::copy(bytes, tensor->data.begin() + static_cast<ptrdiff_t>(offset));
  return *this;
}

GgufWriter& GgufWriter::override_type(uint32_t type) {
  tensors_.back().type = type;
  return *this;
}

std::vector<std::byte> GgufWriter::serialize(std::vector<Field>* fields) const {
  Out out(fields);
  out.raw("magic", std::as_bytes(std::span(GGUF_MAGIC, 4)));
  out.number("version", version_);
  out.number("tensor count", static_cast<uint64_t>(tensors_.size()));
  out.number("key count", static_cast<uint64_t>(values_.size()));
  for (const KeyValue& value : values_) {
    out.text(value.key + ": key", value.key);
    out.number(value.key + ": type", value.type);
    if (value.element_type) {
      out.number(value.key + ": element type", *value.element_type);
      out.number(value.key + ": count", value.count);
    }
    out.raw(value.key + ": value", value.bytes);
  }
  uint64_t offset = 0;
  const auto padded = [this](uint64_t n) { return (n + alignment_ - 1) / alignment_ * alignment_; };
  for (const Tensor& tensor : tensors_) {
    out.text(tensor.name + ": name", tensor.name);
    out.number(tensor.name + ": dimension count", static_cast<uint32_t>(tensor.ne.size()));
    for (size_t i = 0; i < tensor.ne.size(); ++i) {
      out.number(odmoe::format("{}: dimension {}", tensor.name, i), tensor.ne[i]);
    }
    out.number(tensor.name + ": type", tensor.type);
    out.number(tensor.name + ": offset", tensor.offset.value_or(offset));
    offset += padded(tensor.data.size() + tensor.hole_bytes);
  }
  for (const Tensor& tensor : tensors_) {
    out.pad(alignment_);
    out.data(tensor.data);
  }
  return out.take();
}

std::vector<GgufWriter::Field> GgufWriter::fields() const {
  std::vector<Field> fields;
  serialize(&fields);
  return fields;
}

uint64_t GgufWriter::header_bytes() const {
  const Field last = fields().back();
  return last.offset + last.bytes;
}

void GgufWriter::write(const std::filesystem::path& path) const {
  const std::vector<std::byte> all = bytes();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(all.data()), static_cast<std::streamsize>(all.size()));
  const auto padded = [this](uint64_t n) { return (n + alignment_ - 1) / alignment_ * alignment_; };
  uint64_t holes = 0;
  for (const Tensor& tensor : tensors_) holes += padded(tensor.hole_bytes);
  if (holes > 0) std::filesystem::resize_file(path, padded(all.size()) + holes);
}

std::vector<GgufWriter> GgufWriter::split(int n_shard) const {
  std::vector<GgufWriter> shards;
  const size_t per_shard =
      (tensors_.size() + static_cast<size_t>(n_shard) - 1) / static_cast<size_t>(n_shard);
  for (int i = 0; i < n_shard; ++i) {
    GgufWriter& shard = shards.emplace_back(version_);
    shard.alignment_ = alignment_;
    if (i == 0) shard.values_ = values_;
    if (i > 0 && alignment_ != GGUF_DEFAULT_ALIGNMENT) {
      shard.set("general.alignment", static_cast<uint32_t>(alignment_));
    }
    shard.set("split.no", static_cast<uint16_t>(i));
    shard.set("split.count", static_cast<uint16_t>(n_shard));
    shard.set("split.tensors.count", static_cast<int32_t>(tensors_.size()));
    const size_t begin = std::min(tensors_.size(), static_cast<size_t>(i) * per_shard);
    const size_t end = std::min(tensors_.size(), begin + per_shard);
    shard.tensors_.assign(tensors_.begin() + static_cast<std::ptrdiff_t>(begin),
                          tensors_.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return shards;
}

std::filesystem::path GgufWriter::split_path(const std::filesystem::path& directory, std::string_view stem,
                                             int shard, int n_shard) {
  return directory / odmoe::format("{}-{:05}-of-{:05}.gguf", stem, shard + 1, n_shard);
}

std::vector<std::filesystem::path> GgufWriter::write_split(const std::filesystem::path& directory,
                                                           std::string_view stem, int n_shard) const {
  std::vector<std::filesystem::path> paths;
  const std::vector<GgufWriter> shards = split(n_shard);
  for (int i = 0; i < n_shard; ++i) {
    paths.push_back(split_path(directory, stem, i, n_shard));
    shards[static_cast<size_t>(i)].write(paths.back());
  }
  return paths;
}

}  // namespace odmoe::testing
