#include "format/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/file_descriptor.h"
#include "base/transfer.h"
#include "format/printable.h"

namespace odmoe {
namespace {

static_assert(std::endian::native == std::endian::little, "lengths are copied as they are");

constexpr uint64_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

struct Dtype {
  std::string_view name;
  uint64_t bits;
};
constexpr std::array kDtypes = {
    Dtype{"F32", 32},    Dtype{"F16", 16},    Dtype{"BF16", 16},   Dtype{"F64", 64},    Dtype{"F8_E4M3", 8},
    Dtype{"F8_E5M2", 8}, Dtype{"F8_E8M0", 8}, Dtype{"F6_E2M3", 6}, Dtype{"F6_E3M2", 6}, Dtype{"F4", 4},
    Dtype{"BOOL", 8},    Dtype{"U8", 8},      Dtype{"I8", 8},      Dtype{"U16", 16},    Dtype{"I16", 16},
    Dtype{"U32", 32},    Dtype{"I32", 32},    Dtype{"U64", 64},    Dtype{"I64", 64},    Dtype{"C64", 64}};

// Bytes of a tensor; nothing when they are not a whole number or more than any file has.
std::optional<uint64_t> tensor_bytes(std::string_view dtype, std::span<const int64_t> shape) {
  if (std::ranges::any_of(shape, [](int64_t n) { return n < 0; })) return std::nullopt;
  if (std::ranges::contains(shape, 0)) return 0;  // whatever the others are
  uint64_t elements = 1;
  for (const int64_t n : shape) {
    if (elements > (uint64_t{1} << 56U) / static_cast<uint64_t>(n)) return std::nullopt;
    elements *= static_cast<uint64_t>(n);
  }
  const uint64_t bits = elements * safetensors_dtype_bits(dtype);
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

// A tensor as its object in the header says, before anything is compared.
struct Described {
  SafetensorsTensor tensor;
  std::array<uint64_t, 2> range = {};  // from the start of the data
  size_t n_range = 0;
  bool has_dtype = false, has_shape = false, has_range = false;
};

// The header's JSON as events, so that no more is kept than what is wanted of it.  A handler returns false to
// stop; error() then says why.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& name) : name_(name) {}

  std::vector<Described>& tensors() { return tensors_; }
  std::map<std::string, std::string>& metadata() { return metadata_; }
  Error error() const { return error_; }

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("a boolean"); }
  bool number_float(double, const std::string&) override { return value("no whole number"); }
  bool number_integer(int64_t number) override {
    // The parser gives positive numbers to number_unsigned().
    return value(odmoe::format("{}", number));
  }
  bool number_unsigned(uint64_t number) override {
    if (field_ == Field::kShape && depth_ == 3) {
      auto& shape = tensors_.back().tensor.shape;
      if (shape.size() == kMaxSafetensorsDimensions) {
        return bad("has more than {} dimensions", kMaxSafetensorsDimensions);
      }
      if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return bad("has a dimension of {}", number);
      }
      shape.push_back(static_cast<int64_t>(number));
      return true;
    }
    if (field_ == Field::kRange && depth_ == 3) {
      Described& it = tensors_.back();
      if (it.n_range == it.range.size()) return bad("has more than two data_offsets");
      it.range[it.n_range++] = number;
      return true;
    }
    return value(odmoe::format("{}", number));
  }
  bool string(std::string& text) override {
    if (depth_ == 2 && in_metadata_) {
      if (!metadata_.emplace(key_, std::move(text)).second) return bad("has key '{}' twice", printable(key_));
      return true;
    }
    if (depth_ == 2 && field_ == Field::kDtype) {
      tensors_.back().tensor.dtype = std::move(text);
      return true;
    }
    return value("text");
  }
  bool binary(nlohmann::json::binary_t&) override { return value("binary"); }

  bool start_object(size_t) override {
    if (depth_ >= 2 && (in_metadata_ || field_ != Field::kOther)) return value("an object");
    return deeper();
  }
  bool end_object() override {
    --depth_;
    if (depth_ != 1 || in_metadata_) return true;
    const Described& it = tensors_.back();
    if (!it.has_dtype) return bad("has no dtype");
    if (!it.has_shape) return bad("has no shape");
    if (!it.has_range || it.n_range != 2) return bad("has no two data_offsets");
    return true;
  }
  bool start_array(size_t) override {
    const bool wanted = field_ == Field::kShape || field_ == Field::kRange;
    if (depth_ < 2 || in_metadata_ || field_ == Field::kDtype || (depth_ > 2 && wanted)) {
      return value("an array");
    }
    return deeper();
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(std::string& text) override {
    if (depth_ == 1) {
      in_metadata_ = text == kMetadataKey;
      if (in_metadata_) {
        key_ = text;
        if (std::exchange(has_metadata_, true)) return bad("occurs twice");
        return true;
      }
      if (tensors_.size() == kMaxSafetensorsTensors) {
        error_ =
            Error{ErrorKind::kBadFile,
                  odmoe::format("{} is damaged: its header lists more than {} tensors; download it again",
                                name_, kMaxSafetensorsTensors)};
        return false;
      }
      tensors_.emplace_back().tensor.name = std::move(text);
      field_ = Field::kOther;
    } else if (depth_ == 2 && in_metadata_) {
      key_ = std::move(text);
    } else if (depth_ == 2) {
      Described& it = tensors_.back();
      field_ = text == "dtype"          ? Field::kDtype
               : text == "shape"        ? Field::kShape
               : text == "data_offsets" ? Field::kRange
                                        : Field::kOther;
      if ((field_ == Field::kDtype && std::exchange(it.has_dtype, true)) ||
          (field_ == Field::kShape && std::exchange(it.has_shape, true)) ||
          (field_ == Field::kRange && std::exchange(it.has_range, true))) {
        return bad("has its {} twice", text);
      }
    }
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    error_ = Error{ErrorKind::kBadFile,
                   odmoe::format("{} is damaged: its header is not JSON at byte {}; download it again", name_,
                                 position + kLengthBytes)};
    return false;
  }

 private:
  enum class Field : uint8_t { kOther, kDtype, kShape, kRange };
  static constexpr int kMaxDepth = 16;  // of what a later version may add to a tensor

  bool deeper() {
    if (++depth_ <= kMaxDepth) return true;
    return bad("is nested more than {} deep", kMaxDepth);
  }

  // A value that is wanted nowhere: fine in a field that is not known, damage elsewhere.
  bool value(std::string_view what) {
    if (depth_ >= 2 && !in_metadata_ && field_ == Field::kOther) return true;
    if (depth_ == 0) return bad("is {}, not an object", what);
    if (depth_ == 1) return bad("is {}, not an object", what);
    if (in_metadata_) return bad("has key '{}', which is {} and not text", printable(key_), what);
    return bad("has {} where its {} should be", what,
               field_ == Field::kDtype   ? "dtype"
               : field_ == Field::kShape ? "shape"
                                         : "data_offsets");
  }

  template <typename... Args>
  bool bad(std::format_string<Args...> format, Args&&... args) {
    const std::string where = depth_ == 0    ? "its header"
                              : in_metadata_ ? std::string(kMetadataKey)
                              : tensors_.empty()
                                  ? "its header"
                                  : odmoe::format("tensor '{}'", printable(tensors_.back().tensor.name));
    error_ = Error{ErrorKind::kBadFile, odmoe::format("{} is damaged: {} {}; download it again", name_, where,
                                                      odmoe::format(format, std::forward<Args>(args)...))};
    return false;
  }

  const std::string& name_;
  std::vector<Described> tensors_;
  std::map<std::string, std::string> metadata_;
  Error error_{ErrorKind::kBadFile, {}};
  int depth_ = 0;
  bool in_metadata_ = false, has_metadata_ = false;
  Field field_ = Field::kOther;
  std::string key_;  // of the metadata
};

std::string known_dtypes() {
  std::string all;
  for (const Dtype& dtype : kDtypes) all += (all.empty() ? "" : ", ") + std::string(dtype.name);
  return all;
}

// Checks one tensor by itself and turns its range into one of the file.
Status place(Described& described, uint64_t data_begin, uint64_t file_bytes, const std::string& name) {
  SafetensorsTensor& tensor = described.tensor;
  const auto bad = [&](const std::string& what) {
    return fail(ErrorKind::kBadFile, "{} is damaged: tensor '{}' {}; download it again", name,
                printable(tensor.name), what);
  };
  if (safetensors_dtype_bits(tensor.dtype) == 0) {
    return fail(ErrorKind::kUnsupported, "{}: tensor '{}' is of dtype '{}', which is not known; known are {}",
                name, printable(tensor.name), printable(tensor.dtype, 40), known_dtypes());
  }
  const std::optional<uint64_t> bytes = tensor_bytes(tensor.dtype, tensor.shape);
  if (!bytes) return bad("has an impossible shape");
  const auto [begin, end] = described.range;
  if (end < begin || end - begin != *bytes) {
    return bad(odmoe::format("lies at {} to {}, but its dtype and shape make {} bytes", begin, end, *bytes));
  }
  if (end > file_bytes - data_begin) {
    return fail(
        ErrorKind::kBadFile,
        "{} is cut short or damaged: tensor '{}' ends at byte {} of the data, but the file has {} bytes "
        "of data; download it again",
        name, printable(tensor.name), end, file_bytes - data_begin);
  }
  tensor.offset = data_begin + begin;
  tensor.bytes = *bytes;
  return {};
}

// What the first bytes are when they are not the length of a header: not every mistake, but the usual ones.
Error not_safetensors(std::span<const std::byte> first_bytes, const std::string& name) {
  const std::string_view head(reinterpret_cast<const char*>(first_bytes.data()), first_bytes.size());
  const auto bad = [&](std::string_view what) {
    return Error{ErrorKind::kBadFile, odmoe::format("{} {}", name, what)};
  };
  if (head.empty()) return bad("is empty: download it again");
  if (head.starts_with("version https://git-lfs")) {
    return bad("is a Git LFS pointer, not the file itself: fetch it with `git lfs pull`");
  }
  if (head.starts_with("GGUF")) return bad("is a GGUF, not a safetensors file");
  if (head.starts_with("<!") || head.starts_with("<html")) {
    return bad("is a web page: the download went wrong; check its address and download it again");
  }
  return bad(
      "is not a safetensors file or is damaged: it does not begin with the length of a header; "
      "download it again");
}

std::optional<uint64_t> header_length(std::span<const std::byte> first_bytes) {
  if (first_bytes.size() <= kLengthBytes || first_bytes[kLengthBytes] != std::byte{'{'}) return std::nullopt;
  uint64_t length = 0;
  std::memcpy(&length, first_bytes.data(), kLengthBytes);
  if (length < 2 || length > kMaxSafetensorsHeaderBytes) return std::nullopt;
  return length;
}

Status read_first_bytes(int descriptor, std::span<std::byte> out, const std::string& name) {
  const auto done = read_exactly(descriptor, 0, out);
  if (done.has_value()) return {};
  if (done.error().error != 0) {
    return fail(ErrorKind::kIo, "{}: cannot read at byte {}: {}; check the drive", name, done.error().bytes,
                std::strerror(done.error().error));
  }
  return fail(ErrorKind::kIo,
              "{}: ends at byte {}, earlier than when it was opened; is it still being written?", name,
              done.error().bytes);
}

}  // namespace

uint64_t safetensors_dtype_bits(std::string_view dtype) {
  const auto* found = std::ranges::find(kDtypes, dtype, &Dtype::name);
  return found == kDtypes.end() ? 0 : found->bits;
}

Result<SafetensorsFile> parse_safetensors_header(std::span<const std::byte> first_bytes, uint64_t file_bytes,
                                                 const std::string& name) {
  first_bytes = first_bytes.first(std::min<uint64_t>(first_bytes.size(), file_bytes));
  const std::optional<uint64_t> length = header_length(first_bytes);
  if (!length) return std::unexpected(not_safetensors(first_bytes, name));
  if (*length > first_bytes.size() - kLengthBytes) {
    return fail(ErrorKind::kBadFile,
                "{} is cut short or damaged: its header has {} bytes, but the file ends at byte {}; "
                "download it again",
                name, *length, first_bytes.size());
  }
  HeaderReader reader(name);
  const char* text = reinterpret_cast<const char*>(first_bytes.data()) + kLengthBytes;
  if (!nlohmann::json::sax_parse(text, text + *length, &reader)) return std::unexpected(reader.error());

  SafetensorsFile file;
  file.file_bytes_ = file_bytes;
  file.data_begin_ = kLengthBytes + *length;
  file.metadata_ = std::move(reader.metadata());
  file.tensors_.reserve(reader.tensors().size());
  for (Described& described : reader.tensors()) {
    ODMOE_RETURN_IF_ERROR(place(described, file.data_begin_, file_bytes, name));
    file.tensors_.push_back(std::move(described.tensor));
  }
  std::ranges::stable_sort(
      file.tensors_, {}, [](const SafetensorsTensor& t) { return std::pair(t.offset, t.offset + t.bytes); });
  for (size_t i = 0; i < file.tensors_.size(); ++i) {
    const SafetensorsTensor& tensor = file.tensors_[i];
    if (i > 0 && file.tensors_[i - 1].offset + file.tensors_[i - 1].bytes > tensor.offset) {
      return fail(ErrorKind::kBadFile, "{} is damaged: tensors '{}' and '{}' overlap; download it again",
                  name, printable(file.tensors_[i - 1].name), printable(tensor.name));
    }
    if (!file.index_.emplace(tensor.name, i).second) {
      return fail(ErrorKind::kBadFile, "{} is damaged: it has tensor '{}' twice; download it again", name,
                  printable(tensor.name));
    }
  }
  return file;
}

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  const std::string name = printable_path(path);
  const FileDescriptor descriptor = FileDescriptor::open(path, O_RDONLY);
  if (!descriptor) {
    if (errno == ENOENT || errno == ENOTDIR) return fail(ErrorKind::kNotFound, "{}: no such file", name);
    return fail(ErrorKind::kIo, "cannot open {}: {}", name, std::strerror(errno));
  }
  struct stat info{};
  if (fstat(descriptor.number(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return fail(ErrorKind::kBadFile, "{} is not a file: give a safetensors file", name);
  }
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  // As much as tells what a wrong file is; most headers of small files are in it.
  constexpr uint64_t kFirstBytes = 4096;
  std::vector<std::byte> bytes(std::min(kFirstBytes, file_bytes));
  ODMOE_RETURN_IF_ERROR(read_first_bytes(descriptor.number(), bytes, name));
  const std::optional<uint64_t> length = header_length(bytes);
  if (length && *length <= file_bytes - kLengthBytes && kLengthBytes + *length > bytes.size()) {
    bytes.resize(kLengthBytes + *length);
    ODMOE_RETURN_IF_ERROR(read_first_bytes(descriptor.number(), bytes, name));
  }
  ODMOE_ASSIGN_OR_RETURN(SafetensorsFile file, parse_safetensors_header(bytes, file_bytes, name));
  file.path_ = path;
  return file;
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Result<std::string> make_safetensors_header(std::span<const SafetensorsEntry> entries,
                                            const std::map<std::string, std::string>& metadata,
                                            uint64_t alignment) {
  if (alignment < kLengthBytes || !std::has_single_bit(alignment) || alignment > (1U << 30U)) {
    return fail(ErrorKind::kUsage, "safetensors: an alignment of {} is not a power of two from 8 to 1 GiB",
                alignment);
  }
  if (entries.size() > kMaxSafetensorsTensors) {
    return fail(ErrorKind::kUsage, "safetensors: {} tensors are more than {}", entries.size(),
                kMaxSafetensorsTensors);
  }
  // One object at a time: a tree of them all would take many times the text.
  const auto quoted = [](std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  std::string json = "{";
  if (!metadata.empty()) {
    json += quoted(kMetadataKey) + ":{";
    for (const auto& [key, text] : metadata) {
      if (json.back() != '{') json += ',';
      json += quoted(key) + ":" + quoted(text);
    }
    json += '}';
  }
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    const std::optional<uint64_t> bytes = tensor_bytes(entry.dtype, entry.shape);
    if (entry.name == kMetadataKey || !names.insert(entry.name).second ||
        safetensors_dtype_bits(entry.dtype) == 0 || !bytes ||
        entry.shape.size() > kMaxSafetensorsDimensions || *bytes > (uint64_t{1} << 60U) - offset) {
      return fail(
          ErrorKind::kUsage,
          "safetensors: tensor '{}' has a name, dtype or shape that cannot be written, or occurs twice",
          printable(entry.name));
    }
    if (json.size() > 1) json += ',';
    json += quoted(entry.name) + R"(:{"dtype":)" + quoted(entry.dtype) + R"(,"shape":[)";
    for (size_t i = 0; i < entry.shape.size(); ++i) {
      json += odmoe::format("{}{}", i == 0 ? "" : ",", entry.shape[i]);
    }
    json += odmoe::format(R"(],"data_offsets":[{},{}]}})", offset, offset + *bytes);
    offset += *bytes;
  }
  json += '}';
  const uint64_t end = (kLengthBytes + json.size() + alignment - 1) / alignment * alignment;
  json.resize(end - kLengthBytes, ' ');
  const uint64_t length = json.size();
  if (length > kMaxSafetensorsHeaderBytes) {
    return fail(ErrorKind::kUsage, "safetensors: a header of {} bytes is over the limit of {}", length,
                kMaxSafetensorsHeaderBytes);
  }
  std::string header(kLengthBytes, '\0');
  std::memcpy(header.data(), &length, kLengthBytes);
  return header + json;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::filesystem::path& path,
                                                    std::span<const SafetensorsEntry> entries,
                                                    const std::map<std::string, std::string>& metadata,
                                                    uint64_t alignment) {
  ODMOE_ASSIGN_OR_RETURN(const std::string header, make_safetensors_header(entries, metadata, alignment));
  SafetensorsWriter writer;
  writer.path_ = path;
  writer.data_begin_ = header.size();
  writer.file_bytes_ = header.size();
  for (const SafetensorsEntry& entry : entries) {
    writer.file_bytes_ += tensor_bytes(entry.dtype, entry.shape).value_or(0);
  }
  writer.descriptor_ = FileDescriptor::open(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (!writer.descriptor_) {
    return fail(ErrorKind::kIo, "cannot create {}: {}", printable_path(path), std::strerror(errno));
  }
  ODMOE_RETURN_IF_ERROR(writer.write(std::as_bytes(std::span(header))));
  return writer;
}

Status SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (!descriptor_ || bytes.size() > file_bytes_ - written_) {
    return fail(ErrorKind::kUsage, "{}: {} bytes at {} are more than its tensors have", printable_path(path_),
                bytes.size(), written_);
  }
  return write(bytes);
}

Status SafetensorsWriter::write(std::span<const std::byte> bytes) {
  const auto done = write_exactly(descriptor_.number(), bytes);
  written_ += done.has_value() ? bytes.size() : done.error().bytes;
  if (done.has_value()) return {};
  const int error = done.error().error;
  return fail(ErrorKind::kIo, "cannot write {} at byte {}: {}{}", printable_path(path_), written_,
              std::strerror(error), error == ENOSPC || error == EDQUOT ? "; make room and start again" : "");
}

Status SafetensorsWriter::finish() {
  if (!descriptor_ || written_ != file_bytes_) {
    return fail(ErrorKind::kUsage, "{}: finished after {} of {} bytes", printable_path(path_), written_,
                file_bytes_);
  }
  const bool synced = fsync(descriptor_.number()) == 0;
  const int sync_error = errno;
  const bool closed = descriptor_.close();
  if (synced && closed) return {};
  return fail(ErrorKind::kIo, "cannot write {} to the drive: {}", printable_path(path_),
              std::strerror(synced ? errno : sync_error));
}

}  // namespace odmoe
