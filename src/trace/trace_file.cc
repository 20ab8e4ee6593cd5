#include "trace/trace_file.h"

#include <lzma.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <system_error>

namespace odmoe {
namespace {

constexpr uint64_t kUnpackMemory = 512ULL << 20U;  // more than xz -9 asks for
constexpr std::array<uint8_t, 6> kXzMagic = {0xFD, '7', 'z', 'X', 'Z', 0};

// Thread-compatible.  Reads a file in pieces, unpacking what xz packed.
class PackedFile {
 public:
  PackedFile(std::FILE* file, std::string name, const TraceProgress* progress)
      : file_(file), name_(std::move(name)), progress_(progress) {}
  ~PackedFile() { lzma_end(&unpacker_); }
  PackedFile(const PackedFile&) = delete;
  PackedFile& operator=(const PackedFile&) = delete;

  Status open() {
    ODMOE_RETURN_IF_ERROR(fill());
    packed_ = have_ >= kXzMagic.size() && std::memcmp(buffer_.data(), kXzMagic.data(), kXzMagic.size()) == 0;
    if (packed_ && lzma_stream_decoder(&unpacker_, kUnpackMemory, LZMA_CONCATENATED) != LZMA_OK) {
      return fail(ErrorKind::kIo, "{}: no memory to unpack it", name_);
    }
    return {};
  }

  Result<size_t> read(std::span<std::byte> out) { return packed_ ? unpack(out) : copy(out); }

 private:
  Status fill() {
    if (progress_ != nullptr && *progress_ && !(*progress_)(read_)) {
      return fail(ErrorKind::kInterrupted, "interrupted");
    }
    at_ = 0;
    errno = 0;
    have_ = std::fread(buffer_.data(), 1, buffer_.size(), file_);
    if (std::ferror(file_) != 0) {
      return fail(ErrorKind::kIo, "cannot read {}: {}", name_, std::generic_category().message(errno));
    }
    read_ += have_;
    return {};
  }

  Result<size_t> copy(std::span<std::byte> out) {
    size_t done = 0;
    while (done < out.size()) {
      if (at_ == have_) {
        ODMOE_RETURN_IF_ERROR(fill());
        if (have_ == 0) break;
      }
      const size_t n = std::min(out.size() - done, have_ - at_);
      std::memcpy(out.data() + done, buffer_.data() + at_, n);
      at_ += n;
      done += n;
    }
    return done;
  }

  Result<size_t> unpack(std::span<std::byte> out) {
    unpacker_.next_out = reinterpret_cast<uint8_t*>(out.data());
    unpacker_.avail_out = out.size();
    while (unpacker_.avail_out > 0 && !ended_) {
      if (at_ == have_) ODMOE_RETURN_IF_ERROR(fill());
      unpacker_.next_in = buffer_.data() + at_;
      unpacker_.avail_in = have_ - at_;
      const lzma_ret code = lzma_code(&unpacker_, have_ == 0 ? LZMA_FINISH : LZMA_RUN);
      at_ = have_ - unpacker_.avail_in;
      if (code == LZMA_STREAM_END) {
        ended_ = true;
      } else if (code == LZMA_MEMLIMIT_ERROR || code == LZMA_MEM_ERROR) {
        return fail(ErrorKind::kBadFile,
                    "{}: unpacking it takes more than {} MiB of memory; pack it with xz -9", name_,
                    kUnpackMemory >> 20U);
      } else if (code != LZMA_OK) {
        return fail(ErrorKind::kBadFile, "{}: its xz packing is damaged or ends early; fetch it again",
                    name_);
      }
    }
    return out.size() - unpacker_.avail_out;
  }

  std::FILE* file_;
  std::string name_;
  const TraceProgress* progress_;
  lzma_stream unpacker_ = LZMA_STREAM_INIT;
  bool packed_ = false, ended_ = false;
  std::array<uint8_t, 1 << 16> buffer_{};
  size_t at_ = 0, have_ = 0;
  uint64_t read_ = 0;
};

}  // namespace

Result<RoutingTrace> read_trace(const std::filesystem::path& path, const TraceOptions& options) {
  std::error_code error;
  const bool folder = std::filesystem::is_directory(path, error);
  const std::string name = (folder ? path / "events.csv" : path).string();
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(name.c_str(), "rb"), &std::fclose);
  if (file == nullptr) {
    return fail(errno == ENOENT ? ErrorKind::kNotFound : ErrorKind::kIo, "cannot open {}: {}", name,
                std::generic_category().message(errno));
  }
  const auto packed = std::make_unique<PackedFile>(file.get(), name, &options.progress);
  ODMOE_RETURN_IF_ERROR(packed->open());
  return parse_trace([&](std::span<std::byte> out) { return packed->read(out); }, name, options);
}

}  // namespace odmoe
