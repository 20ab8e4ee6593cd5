#include "format/mirror.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <system_error>

#include "base/whole_file.h"
#include "format/expert_directory.h"
#include "format/gguf_file.h"

namespace odmoe {
namespace {

constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kHeaderBlockBytes = 1 << 20;

class Comparison {
 public:
  Comparison(const std::filesystem::path& a, const std::filesystem::path& b)
      : path_a_(a), path_b_(b), a_(a, std::ios::binary), b_(b, std::ios::binary) {}

  // Compares [offset, offset + bytes).
  Status same(uint64_t offset, uint64_t bytes) {
    bytes_a_.resize(bytes);
    bytes_b_.resize(bytes);
    ODMOE_RETURN_IF_ERROR(read(a_, path_a_, offset, bytes_a_));
    ODMOE_RETURN_IF_ERROR(read(b_, path_b_, offset, bytes_b_));
    const auto [at_a, at_b] = std::ranges::mismatch(bytes_a_, bytes_b_);
    if (at_a == bytes_a_.end()) return {};
    return fail(
        ErrorKind::kBadFile,
        "{} is not a mirror of {}: they differ at byte {}; copy the model again or leave the mirror out",
        path_b_.string(), path_a_.string(), offset + static_cast<uint64_t>(at_a - bytes_a_.begin()));
  }

 private:
  static Status read(std::ifstream& in, const std::filesystem::path& path, uint64_t offset,
                     std::vector<char>& bytes) {
    in.seekg(static_cast<std::streamoff>(offset));
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (in.good()) return {};
    return fail(ErrorKind::kIo, "cannot read {} at byte {} to compare it with its mirror; check the drive",
                path.string(), offset);
  }

  const std::filesystem::path& path_a_;
  const std::filesystem::path& path_b_;
  std::ifstream a_, b_;
  std::vector<char> bytes_a_, bytes_b_;
};

Status compare(const std::filesystem::path& a, const std::filesystem::path& b, uint64_t header_bytes) {
  std::error_code error_a, error_b;
  const uint64_t bytes = std::filesystem::file_size(a, error_a);
  const uint64_t other_bytes = std::filesystem::file_size(b, error_b);
  if (error_a || error_b || bytes != other_bytes) {
    return fail(
        ErrorKind::kBadFile,
        "{} is not a mirror of {}: it has {} bytes and not {}; copy the model again or leave the mirror out",
        b.string(), a.string(), error_b ? 0 : other_bytes, error_a ? 0 : bytes);
  }
  Comparison comparison(a, b);
  for (uint64_t offset = 0; offset < header_bytes; offset += kHeaderBlockBytes) {
    ODMOE_RETURN_IF_ERROR(comparison.same(offset, std::min(kHeaderBlockBytes, header_bytes - offset)));
  }
  const uint64_t data = bytes - header_bytes;
  const uint64_t block = std::min(kBlockBytes, data);
  for (uint64_t i = 0; i < kMirrorSamples && data > 0; ++i) {
    // In floating point: the product of two sizes may not fit, and which byte it is does not matter.
    const double share = static_cast<double>(i) / (kMirrorSamples - 1);
    const auto at = static_cast<uint64_t>(share * static_cast<double>(data - block));
    ODMOE_RETURN_IF_ERROR(comparison.same(header_bytes + std::min(at, data - block), block));
  }
  return {};
}

// Its records are compared with their checksums as they are read, and nothing else is read of a mirror.
Result<std::vector<std::filesystem::path>> open_mirror_directory(const ExpertDirectory& model,
                                                                 const std::filesystem::path& path) {
  if (!ExpertDirectory::is_one(path)) {
    return fail(
        ErrorKind::kBadFile,
        "{} is not a mirror of {}: it is not an expert directory; copy the directory or leave the mirror out",
        path.string(), model.path().string());
  }
  std::error_code error;
  if (std::filesystem::equivalent(model.path(), path, error)) {
    return fail(ErrorKind::kUsage, "{} is the model itself and no mirror of it; name a copy on another drive",
                path.string());
  }
  ODMOE_ASSIGN_OR_RETURN(const auto mirror, ExpertDirectory::open(path));
  ODMOE_ASSIGN_OR_RETURN(const std::string ours,
                         read_whole_text(model.path() / "model.json", ExpertManifest::kMaxBytes));
  ODMOE_ASSIGN_OR_RETURN(const std::string theirs,
                         read_whole_text(path / "model.json", ExpertManifest::kMaxBytes));
  if (ours != theirs) {
    return fail(
        ErrorKind::kBadFile,
        "{} is not a mirror of {}: their model.json differ; copy the directory again or leave the mirror out",
        path.string(), model.path().string());
  }
  return mirror->files();
}

}  // namespace

Result<std::vector<std::filesystem::path>> open_mirror(const Checkpoint& model,
                                                       const std::filesystem::path& path) {
  if (const auto* directory = dynamic_cast<const ExpertDirectory*>(&model)) {
    return open_mirror_directory(*directory, path);
  }
  const auto& files = model.files();
  std::error_code error;
  const bool folder = std::filesystem::is_directory(path, error);
  ODMOE_ASSIGN_OR_RETURN(const auto mirror, GgufFile::open(folder ? path / files.front().filename() : path));
  if (mirror->files().size() != files.size()) {
    return fail(ErrorKind::kBadFile, "{} is not a mirror of {}: it is split into {} files and not {}",
                mirror->files().front().string(), files.front().string(), mirror->files().size(),
                files.size());
  }
  for (size_t i = 0; i < files.size(); ++i) {
    if (std::filesystem::equivalent(files[i], mirror->files()[i], error)) {
      return fail(ErrorKind::kUsage,
                  "{} is the model itself and no mirror of it; name a copy on another drive",
                  mirror->files()[i].string());
    }
    // The data begins with the first tensor; a part without tensors is all header.
    uint64_t header_bytes = std::filesystem::file_size(files[i], error);
    if (error) header_bytes = 0;
    for (const TensorInfo& tensor : model.tensors()) {
      if (tensor.file == static_cast<int>(i)) header_bytes = std::min(header_bytes, tensor.offset);
    }
    ODMOE_RETURN_IF_ERROR(compare(files[i], mirror->files()[i], header_bytes));
  }
  return mirror->files();
}

}  // namespace odmoe
