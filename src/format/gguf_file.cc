#include "format/gguf_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "base/file_descriptor.h"
#include "format/gguf_experts.h"
#include "format/gguf_header.h"
#include "format/not_gguf.h"
#include "format/printable.h"

namespace odmoe {
namespace {

using gguf::Header;

Result<Header> read_shard(const std::filesystem::path& path) {
  const std::string name = printable_path(path);
  // Not blocking: a pipe without a writer would hold us for ever.
  const FileDescriptor file = FileDescriptor::open(path, O_RDONLY | O_NONBLOCK);
  if (!file) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) {
      return fail(ErrorKind::kNotFound, "{}: no such file; check the path", name);
    }
    if (error == EACCES) {
      return fail(ErrorKind::kIo, "{} may not be read: permission denied; change its permissions or the user",
                  name);
    }
    return fail(ErrorKind::kIo, "{} cannot be opened: {}", name, std::strerror(error));
  }
  struct stat status{};
  if (fstat(file.number(), &status) != 0) {
    return fail(ErrorKind::kIo, "{} cannot be examined: {}", name, std::strerror(errno));
  }
  if (S_ISDIR(status.st_mode)) return std::unexpected(directory_error(path));
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorKind::kBadFile, "{} is a pipe or a device: give a regular file", name);
  }
  return gguf::read_header(file.number(), static_cast<uint64_t>(status.st_size), name);
}

// NAME-00001-of-00003.gguf -> NAME-00002-of-00003.gguf; none when the name is not of this form.
std::optional<std::filesystem::path> shard_path(const std::filesystem::path& first, int64_t number,
                                                int64_t count) {
  const std::string name = first.filename().string();
  const std::string suffix = odmoe::format("-00001-of-{:05}.gguf", count);
  if (!name.ends_with(suffix)) return std::nullopt;
  const std::string stem = name.substr(0, name.size() - suffix.size());
  return first.parent_path() / odmoe::format("{}-{:05}-of-{:05}.gguf", stem, number, count);
}

// The text at `key`, empty when there is none.
std::string text_or_empty(const KeyValues& values, std::string_view key) {
  return values.get_string(key).value_or("");
}

}  // namespace

GgufFile::GgufFile(Header header, std::filesystem::path path)
    : Checkpoint(KeyValues(std::move(header.metadata), printable_path(path)), path),
      version_(header.version) {
  files_.push_back(std::move(path));
  total_bytes_ = header.file_bytes;
  tensors_ = std::move(header.tensors);
}

Result<std::unique_ptr<GgufFile>> GgufFile::open(const std::filesystem::path& path) {
  ODMOE_ASSIGN_OR_RETURN(Header header, read_shard(path));
  std::unique_ptr<GgufFile> file(new GgufFile(std::move(header), path));
  ODMOE_RETURN_IF_ERROR(file->open_other_shards());
  ODMOE_RETURN_IF_ERROR(file->index_tensors());
  return file;
}

Result<std::unique_ptr<GgufFile>> GgufFile::parse(std::span<const std::byte> bytes, uint64_t file_bytes) {
  const std::string name = "GGUF in memory";
  ODMOE_ASSIGN_OR_RETURN(Header header, gguf::read_header(bytes, file_bytes, name));
  std::unique_ptr<GgufFile> file(new GgufFile(std::move(header), name));
  ODMOE_RETURN_IF_ERROR(file->index_tensors());
  return file;
}

std::string GgufFile::name() const { return printable_path(path_); }

Status GgufFile::open_other_shards() {
  if (!has("split.count")) return {};
  ODMOE_ASSIGN_OR_RETURN(const int64_t count, get_int("split.count"));
  if (count < 1 || count > kMaxShards) {
    return fail(ErrorKind::kBadFile, "{} is damaged: key 'split.count' is {}, not 1 to {}; download it again",
                name(), count, kMaxShards);
  }
  if (count == 1) return {};
  ODMOE_ASSIGN_OR_RETURN(const int64_t number, get_int("split.no"));
  if (number < 0 || number >= count) {
    return fail(ErrorKind::kBadFile, "{} is damaged: key 'split.no' is {}, not 0 to {}; download it again",
                name(), number, count - 1);
  }
  if (number != 0) {
    return fail(
        ErrorKind::kBadFile,
        "{} is shard {} of the {} of a split model: give the first, whose name ends in -00001-of-{:05}.gguf",
        name(), number + 1, count, count);
  }
  const std::filesystem::path first = files_.front();
  for (int64_t i = 1; i < count; ++i) {
    const std::optional<std::filesystem::path> path = shard_path(first, i + 1, count);
    if (!path) {
      return fail(ErrorKind::kBadFile,
                  "{} is the first of the {} shards of a split model, but its name does not end in "
                  "-00001-of-{:05}.gguf: give all shards their names back",
                  name(), count, count);
    }
    Result<Header> shard = read_shard(*path);
    if (!shard.has_value() && shard.error().kind == ErrorKind::kNotFound) {
      return fail(ErrorKind::kBadFile, "{} is missing: shard {} of the {} of this model; put it beside {}",
                  printable_path(*path), i + 1, count, printable_path(first.filename()));
    }
    if (!shard.has_value()) return std::unexpected(std::move(shard).error());
    ODMOE_RETURN_IF_ERROR(add_shard(std::move(*shard), *path, i, count));
  }
  if (has("split.tensors.count")) {
    ODMOE_ASSIGN_OR_RETURN(const int64_t n_tensor, get_int("split.tensors.count"));
    if (n_tensor != static_cast<int64_t>(tensors_.size())) {
      return fail(ErrorKind::kBadFile,
                  "{}: the {} shards have {} tensors together, but key 'split.tensors.count' promises {}; "
                  "they are not "
                  "of one model: download them again",
                  name(), count, tensors_.size(), n_tensor);
    }
  }
  return {};
}

Status GgufFile::add_shard(Header shard, std::filesystem::path path, int64_t number, int64_t count) {
  const std::string shard_name = printable_path(path);
  GgufFile other(std::move(shard), std::move(path));
  ODMOE_ASSIGN_OR_RETURN(const int64_t shard_count, other.get_int("split.count"));
  ODMOE_ASSIGN_OR_RETURN(const int64_t shard_number, other.get_int("split.no"));
  if (shard_count != count || shard_number != number) {
    return fail(ErrorKind::kBadFile,
                "{} says that it is shard {} of {}, not {} of {} as its name says: download it again",
                shard_name, shard_number + 1, shard_count, number + 1, count);
  }
  for (const std::string_view key : {"general.architecture", "general.name"}) {
    const std::string theirs = text_or_empty(other, key), ours = text_or_empty(*this, key);
    if (!theirs.empty() && theirs != ours) {
      return fail(ErrorKind::kBadFile,
                  "{} is a shard of another model ({} is '{}', not '{}'): download it again", shard_name, key,
                  printable(theirs), printable(ours));
    }
  }
  if (has("split.tensors.count") && other.has("split.tensors.count")) {
    ODMOE_ASSIGN_OR_RETURN(const int64_t ours, get_int("split.tensors.count"));
    ODMOE_ASSIGN_OR_RETURN(const int64_t theirs, other.get_int("split.tensors.count"));
    if (ours != theirs) {
      return fail(ErrorKind::kBadFile,
                  "{} is a shard of another model (of {} tensors, not {}): download it again", shard_name,
                  theirs, ours);
    }
  }
  if (tensors_.size() + other.tensors_.size() > gguf::kMaxTensors) {
    return fail(ErrorKind::kUnsupported, "{}: the shards have more than {} tensors together", name(),
                gguf::kMaxTensors);
  }
  const int index = static_cast<int>(files_.size());
  for (TensorInfo& tensor : other.tensors_) {
    tensor.file = index;
    tensors_.push_back(std::move(tensor));
  }
  files_.push_back(std::move(other.files_.front()));
  total_bytes_ += other.total_bytes_;
  return {};
}

Result<std::unique_ptr<ExpertSource>> GgufFile::expert_source(int n_layer, int n_expert,
                                                              int n_expert_used) const {
  return make_gguf_experts(*this, n_layer, n_expert, n_expert_used);
}

}  // namespace odmoe
