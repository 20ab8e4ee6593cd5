#include "format/gguf_header.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include "base/transfer.h"
#include "format/not_gguf.h"
#include "format/printable.h"

namespace odmoe::gguf {
namespace {

static_assert(std::endian::native == std::endian::little, "values are copied out of the file as they are");

// The file's first bytes, fetched as the reading goes on.
class Bytes {
 public:
  Bytes(std::span<const std::byte> memory, std::string name)
      : name_(std::move(name)), limit_(memory.size()), bytes_(memory.begin(), memory.end()) {}
  Bytes(int file_descriptor, uint64_t file_bytes, std::string name)
      : name_(std::move(name)), limit_(file_bytes), file_descriptor_(file_descriptor) {}

  const std::string& name() const { return name_; }
  uint64_t limit() const { return limit_; }
  const std::byte* at(uint64_t offset) const { return bytes_.data() + offset; }

  // Makes the first `end` bytes present; requires end <= limit() and end <= kMaxHeaderBytes.
  Status fetch(uint64_t end) {
    if (end <= bytes_.size()) return {};
    const uint64_t have = bytes_.size();
    // Doubling keeps the number of copies small; no more than twice the header is read.
    const uint64_t want =
        std::min({std::max({end, 2 * have, uint64_t{256} << 10U}), limit_, kMaxHeaderBytes});
    bytes_.resize(want);
    const auto done = read_exactly(file_descriptor_, have, std::span(bytes_).subspan(have));
    if (!done.has_value()) {
      const uint64_t at = have + done.error().bytes;
      if (done.error().error != 0) {
        return fail(ErrorKind::kIo, "{}: cannot read at byte {}: {}; check the drive", name_, at,
                    std::strerror(done.error().error));
      }
      return fail(ErrorKind::kIo, "{}: ends at byte {} although it had {} bytes; is it still being written?",
                  name_, at, limit_);
    }
    return {};
  }

  std::vector<std::byte> take(uint64_t end) {
    bytes_.resize(end);
    bytes_.shrink_to_fit();
    return std::move(bytes_);
  }

 private:
  std::string name_;
  uint64_t limit_;
  int file_descriptor_ = -1;
  std::vector<std::byte> bytes_;
};

// Reads forward; every length is checked against what is left of the file before it is believed.
class Cursor {
 public:
  explicit Cursor(Bytes& bytes) : bytes_(&bytes) {}

  uint64_t position() const { return position_; }
  const std::string& name() const { return bytes_->name(); }
  // What is being read now, for errors: "key 'general.name'".
  void set_context(std::string context) { context_ = std::move(context); }
  const std::string& context() const { return context_; }

  // Makes the next n bytes present without passing them.
  Status need(uint64_t n) {
    if (n > bytes_->limit() - position_) {
      return fail(ErrorKind::kBadFile,
                  "{} is cut short or damaged: {} at byte {} needs {} bytes, but the file ends at byte {}; "
                  "download it again",
                  name(), context_, position_, n, bytes_->limit());
    }
    if (n > kMaxHeaderBytes - position_) {
      return fail(ErrorKind::kBadFile,
                  "{} is damaged: {} at byte {} needs {} bytes, more than a header may have; "
                  "download it again",
                  name(), context_, position_, n);
    }
    return bytes_->fetch(position_ + n);
  }

  Status skip(uint64_t n) {
    ODMOE_RETURN_IF_ERROR(need(n));
    position_ += n;
    return {};
  }

  template <typename T>
  Result<T> read() {
    ODMOE_RETURN_IF_ERROR(need(sizeof(T)));
    T value;
    std::memcpy(&value, bytes_->at(position_), sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  // A view that the next read makes invalid.
  Result<std::string_view> read_string(uint64_t max_bytes = std::numeric_limits<uint64_t>::max()) {
    ODMOE_ASSIGN_OR_RETURN(const uint64_t n, read<uint64_t>());
    if (n > max_bytes) return damaged("has a length of {} bytes, more than {}", n, max_bytes);
    ODMOE_RETURN_IF_ERROR(need(n));
    const std::string_view text(reinterpret_cast<const char*>(bytes_->at(position_)), n);
    position_ += n;
    return text;
  }

  // "FILE is damaged: CONTEXT at byte N WHAT; download it again"
  template <typename... Args>
  std::unexpected<Error> damaged(std::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorKind::kBadFile, "{} is damaged: {} near byte {} {}; download it again", name(), context_,
                position_, odmoe::format(format, std::forward<Args>(args)...));
  }

 private:
  Bytes* bytes_;
  uint64_t position_ = 0;
  std::string context_ = "the header";
};

struct Start {
  uint32_t version = 0;
  uint64_t n_tensor = 0;
  uint64_t n_key = 0;
};

Result<Start> read_start(Cursor& cursor) {
  constexpr uint32_t kMagicBytes = 4;
  ODMOE_RETURN_IF_ERROR(cursor.skip(kMagicBytes));
  Start start;
  ODMOE_ASSIGN_OR_RETURN(start.version, cursor.read<uint32_t>());
  if (start.version != 0 && (start.version & 0xFFFFU) == 0) {
    return fail(ErrorKind::kUnsupported,
                "{} is a big-endian GGUF: download the little-endian one, or convert it with llama.cpp's "
                "gguf_convert_endian.py",
                cursor.name());
  }
  if (start.version == 1) {
    return fail(ErrorKind::kUnsupported,
                "{} is a GGUF of version 1, which is no longer read: download a newer one (version 2 or 3)",
                cursor.name());
  }
  if (start.version > GGUF_VERSION) {
    return fail(ErrorKind::kUnsupported,
                "{} is a GGUF of version {}, but only 2 and 3 are known: update odmoe", cursor.name(),
                start.version);
  }
  if (start.version == 0) return cursor.damaged("has version 0");
  ODMOE_ASSIGN_OR_RETURN(start.n_tensor, cursor.read<uint64_t>());
  ODMOE_ASSIGN_OR_RETURN(start.n_key, cursor.read<uint64_t>());
  if (start.n_tensor > kMaxTensors) {
    return cursor.damaged("counts {} tensors, more than {}", start.n_tensor, kMaxTensors);
  }
  if (start.n_key > kMaxKeys) return cursor.damaged("counts {} keys, more than {}", start.n_key, kMaxKeys);
  return start;
}

Result<gguf_type> read_type(Cursor& cursor) {
  ODMOE_ASSIGN_OR_RETURN(const uint32_t id, cursor.read<uint32_t>());
  if (id >= GGUF_TYPE_COUNT) return cursor.damaged("has the unknown type {}", id);
  return static_cast<gguf_type>(id);
}

Status skip_elements(Cursor& cursor, gguf_type type, uint64_t count) {
  if (type == GGUF_TYPE_STRING) {
    for (uint64_t i = 0; i < count; ++i) ODMOE_RETURN_IF_ERROR(cursor.read_string());
    return {};
  }
  const uint64_t size = element_bytes(type);
  if (count > std::numeric_limits<uint64_t>::max() / size) return cursor.damaged("has {} elements", count);
  return cursor.skip(count * size);
}

Result<Value> read_value(Cursor& cursor) {
  Value value;
  ODMOE_ASSIGN_OR_RETURN(value.type, read_type(cursor));
  if (value.type == GGUF_TYPE_ARRAY) {
    value.is_array = true;
    ODMOE_ASSIGN_OR_RETURN(value.type, read_type(cursor));
    if (value.type == GGUF_TYPE_ARRAY) return cursor.damaged("is an array of arrays");
    ODMOE_ASSIGN_OR_RETURN(value.count, cursor.read<uint64_t>());
  }
  value.offset = cursor.position();
  ODMOE_RETURN_IF_ERROR(skip_elements(cursor, value.type, value.count));
  return value;
}

Status read_values(Cursor& cursor, uint64_t n_key, std::vector<KeyValue>& values,
                   std::vector<KeySpan>& keys) {
  for (uint64_t i = 0; i < n_key; ++i) {
    cursor.set_context(odmoe::format("key {} of {}", i + 1, n_key));
    ODMOE_ASSIGN_OR_RETURN(const std::string_view key, cursor.read_string(kMaxKeyBytes));
    if (key.empty()) return cursor.damaged("is empty");
    keys.push_back({.offset = cursor.position() - key.size(), .bytes = key.size()});
    cursor.set_context(odmoe::format("key '{}'", printable(key)));
    ODMOE_ASSIGN_OR_RETURN(const Value value, read_value(cursor));
    values.push_back({.key = {}, .value = value});
  }
  return {};
}

// Bytes of a tensor; none when they cannot be counted in 64 bits.
std::optional<uint64_t> tensor_bytes(const TensorInfo& tensor) {
  const ggml_type_traits& traits = *ggml_get_type_traits(tensor.type);
  int64_t elements = tensor.ne[0];
  auto bytes = static_cast<uint64_t>(tensor.ne[0] / traits.blck_size);
  if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(traits.type_size), &bytes)) return std::nullopt;
  for (size_t i = 1; i < tensor.ne.size(); ++i) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(tensor.ne[i]), &bytes)) return std::nullopt;
    if (__builtin_mul_overflow(elements, tensor.ne[i], &elements)) return std::nullopt;
  }
  return bytes;
}

Result<ggml_type> read_tensor_type(Cursor& cursor) {
  ODMOE_ASSIGN_OR_RETURN(const uint32_t id, cursor.read<uint32_t>());
  if (id >= GGML_TYPE_COUNT || !holds_data(static_cast<ggml_type>(id))) {
    return fail(
        ErrorKind::kUnsupported,
        "{}: {} is of type {}, which this build of ggml does not know: download another quantisation or "
        "update ggml",
        cursor.name(), cursor.context(), id);
  }
  return static_cast<ggml_type>(id);
}

// `offset` is still that within the data section.
Result<TensorInfo> read_tensor(Cursor& cursor, uint64_t index, uint64_t n_tensor) {
  TensorInfo tensor;
  cursor.set_context(odmoe::format("tensor {} of {}", index + 1, n_tensor));
  ODMOE_ASSIGN_OR_RETURN(tensor.name, cursor.read_string(kMaxTensorNameBytes));
  if (tensor.name.empty()) return cursor.damaged("has no name");
  cursor.set_context(odmoe::format("tensor '{}'", printable(tensor.name)));
  if (tensor.name.contains('\0')) return cursor.damaged("has a zero byte in its name");

  ODMOE_ASSIGN_OR_RETURN(const uint32_t n_dim, cursor.read<uint32_t>());
  if (n_dim > tensor.ne.size())
    return cursor.damaged("has {} dimensions, more than {}", n_dim, tensor.ne.size());
  for (uint32_t i = 0; i < n_dim; ++i) {
    ODMOE_ASSIGN_OR_RETURN(tensor.ne[i], cursor.read<int64_t>());
    if (tensor.ne[i] <= 0) return cursor.damaged("has a dimension of {}", tensor.ne[i]);
  }
  ODMOE_ASSIGN_OR_RETURN(tensor.type, read_tensor_type(cursor));
  const int64_t block = ggml_get_type_traits(tensor.type)->blck_size;
  if (tensor.ne[0] % block != 0) {
    return cursor.damaged("has rows of {} elements, no multiple of the {} in a block of {}", tensor.ne[0],
                          block, ggml_type_name(tensor.type));
  }
  ODMOE_ASSIGN_OR_RETURN(tensor.offset, cursor.read<uint64_t>());
  const std::optional<uint64_t> bytes = tensor_bytes(tensor);
  if (!bytes) {
    return cursor.damaged("has the impossible shape {} x {} x {} x {}", tensor.ne[0], tensor.ne[1],
                          tensor.ne[2], tensor.ne[3]);
  }
  tensor.bytes = *bytes;
  return tensor;
}

Result<uint64_t> read_alignment(const Cursor& cursor, const Header& header) {
  constexpr std::string_view kKey = "general.alignment";
  const Value* value = header.metadata.find(kKey);
  if (value == nullptr) return kDefaultAlignment;
  if (value->is_array || value->type != GGUF_TYPE_UINT32) {
    return fail(ErrorKind::kBadFile, "{} is damaged: key '{}' is of type {}{}, not u32; download it again",
                cursor.name(), kKey, value->is_array ? "array of " : "", gguf_type_name(value->type));
  }
  uint32_t alignment = 0;
  std::memcpy(&alignment, header.metadata.bytes.data() + value->offset, sizeof(alignment));
  if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
    return fail(ErrorKind::kBadFile,
                "{} is damaged: key '{}' is {}, not a power of two of at most {}; download it again",
                cursor.name(), kKey, alignment, kMaxAlignment);
  }
  return alignment;
}

// Makes offsets absolute and checks that the tensors lie in the file, aligned and apart.
Status place_tensors(const std::string& name, uint64_t data_begin, uint64_t alignment, Header& header) {
  const TensorInfo* beyond = nullptr;
  uint64_t promised = 0;
  for (TensorInfo& tensor : header.tensors) {
    if (tensor.offset % alignment != 0) {
      return fail(
          ErrorKind::kBadFile,
          "{} is damaged: tensor '{}' lies at {} in the data, no multiple of the alignment {}; download it "
          "again",
          name, printable(tensor.name), tensor.offset, alignment);
    }
    uint64_t end = 0;
    if (__builtin_add_overflow(tensor.offset, data_begin, &tensor.offset) ||
        __builtin_add_overflow(tensor.offset, tensor.bytes, &end)) {
      return fail(ErrorKind::kBadFile,
                  "{} is damaged: tensor '{}' lies beyond the end of any file; download it again", name,
                  printable(tensor.name));
    }
    promised = std::max(promised, end);
    if (end > header.file_bytes && beyond == nullptr) beyond = &tensor;
  }
  if (beyond != nullptr) {
    return fail(
        ErrorKind::kBadFile,
        "{} is cut short: tensor '{}' and what follows is missing; download it again: it has {} bytes, its "
        "header promises {}",
        name, printable(beyond->name), header.file_bytes, promised);
  }
  std::vector<const TensorInfo*> by_offset;
  by_offset.reserve(header.tensors.size());
  for (const TensorInfo& tensor : header.tensors) by_offset.push_back(&tensor);
  std::ranges::sort(by_offset, {}, &TensorInfo::offset);
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorInfo& before = *by_offset[i - 1];
    if (before.offset + before.bytes > by_offset[i]->offset) {
      return fail(ErrorKind::kBadFile,
                  "{} is damaged: tensors '{}' and '{}' overlap at byte {}; download it again", name,
                  printable(before.name), printable(by_offset[i]->name), by_offset[i]->offset);
    }
  }
  return {};
}

Status check_tensor_names(const std::string& name, const std::vector<TensorInfo>& tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorInfo& tensor : tensors) names.emplace_back(tensor.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice == names.end()) return {};
  return fail(ErrorKind::kBadFile, "{} is damaged: it has tensor '{}' twice; download it again", name,
              printable(*twice));
}

Result<Header> read(Bytes& bytes, uint64_t file_bytes) {
  const uint64_t head_bytes = std::min<uint64_t>(bytes.limit(), kSniffBytes);
  ODMOE_RETURN_IF_ERROR(bytes.fetch(head_bytes));
  const std::span head(bytes.at(0), head_bytes);
  if (head.size() < 4 || std::memcmp(head.data(), GGUF_MAGIC, 4) != 0) {
    return std::unexpected(not_gguf_error(head, bytes.name()));
  }
  Header header;
  header.file_bytes = file_bytes;
  Cursor cursor(bytes);
  ODMOE_ASSIGN_OR_RETURN(const Start start, read_start(cursor));
  header.version = start.version;
  std::vector<KeySpan> keys;
  ODMOE_RETURN_IF_ERROR(read_values(cursor, start.n_key, header.metadata.entries, keys));
  for (uint64_t i = 0; i < start.n_tensor; ++i) {
    ODMOE_ASSIGN_OR_RETURN(TensorInfo tensor, read_tensor(cursor, i, start.n_tensor));
    header.tensors.push_back(std::move(tensor));
  }
  header.metadata.bytes = bytes.take(cursor.position());  // from here on nothing moves: views may be taken
  if (const auto twice = header.metadata.set_keys(keys)) {
    return fail(ErrorKind::kBadFile, "{} is damaged: it has key '{}' twice; download it again", cursor.name(),
                printable(*twice));
  }
  ODMOE_RETURN_IF_ERROR(check_tensor_names(cursor.name(), header.tensors));
  ODMOE_ASSIGN_OR_RETURN(const uint64_t alignment, read_alignment(cursor, header));
  const uint64_t data_begin = (cursor.position() + alignment - 1) / alignment * alignment;
  ODMOE_RETURN_IF_ERROR(place_tensors(cursor.name(), data_begin, alignment, header));
  return header;
}

}  // namespace

Result<Header> read_header(int file_descriptor, uint64_t file_bytes, const std::string& name) {
  Bytes bytes(file_descriptor, file_bytes, name);
  return read(bytes, file_bytes);
}

Result<Header> read_header(std::span<const std::byte> first_bytes, uint64_t file_bytes,
                           const std::string& name) {
  Bytes bytes(first_bytes.first(std::min<uint64_t>(first_bytes.size(), file_bytes)), name);
  return read(bytes, file_bytes);
}

}  // namespace odmoe::gguf
