// What the bits of a saved state depend on, as one line of text.
#include <algorithm>
#include <format>
#include <fstream>

#include "base/checksum.h"
#include "engine/engine_impl.h"

namespace odmoe {
namespace {

// A fine-tuned model has the tensors and sizes of the one that it was made of, but hardly a page in common.
constexpr uint64_t kSamples = 64;
constexpr uint64_t kSampleBytes = 4096;
constexpr uint64_t kHeadBytes = 1 << 20;  // where a GGUF has its metadata

Result<uint64_t> fingerprint(const std::vector<std::filesystem::path>& files) {
  Checksum checksum;
  std::vector<char> buffer;
  for (const std::filesystem::path& path : files) {
    std::error_code error;
    const uint64_t size = std::filesystem::file_size(path, error);
    std::ifstream file(path, std::ios::binary);
    checksum.add(std::as_bytes(std::span(&size, 1)));
    for (uint64_t i = 0; !error && file && i <= kSamples; ++i) {
      const uint64_t offset = i == 0 ? 0 : (size - std::min(size, kSampleBytes)) / kSamples * i;
      buffer.resize(std::min(i == 0 ? kHeadBytes : kSampleBytes, size - offset));
      file.seekg(static_cast<std::streamoff>(offset));
      file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
      checksum.add(std::as_bytes(std::span(buffer)));
    }
    if (error || !file) return fail(ErrorKind::kIo, "{}: cannot be read", path.string());
  }
  return checksum.value();
}

}  // namespace

Result<std::string> EngineImpl::state_identity() const {
  ODMOE_ASSIGN_OR_RETURN(const uint64_t model, fingerprint(copies_.front().files));
  return std::format("{} {:016x}, KV cache {}, chunks of {}, {} attention, ggml {}, {}", info_.architecture,
                     model, ggml_type_name(cache_ggml_type(options_.cache_type)), options_.chunk,
                     options_.flash_attention == FlashAttention::kOn ? "flash" : "plain", ggml_version(),
                     backend_->description());
}

}  // namespace odmoe
