// A checkpoint as Hugging Face or MLX publish it: a folder with config.json and safetensors files, one
// (model.safetensors) or many with an index.  Where each tensor's bytes are, and reading them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "convert/hf_json.h"
#include "format/safetensors.h"
#include "io/direct_file.h"
#include "odmoe/result.h"

namespace odmoe {

// Immutable once open and thread-safe.  Keeps its files open.
class HfCheckpoint {
 public:
  struct Tensor {
    const SafetensorsTensor* info = nullptr;  // owned by the checkpoint
    int file = 0;                             // index into files()
  };

  // Opens a folder.  Errors, naming the file: kNotFound (no config.json, no safetensors, a shard that is
  // missing); kBadFile (damaged, a tensor that is not where the index says); kUnsupported; kIo.
  static Result<std::unique_ptr<HfCheckpoint>> open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const HfConfig& config() const { return config_; }
  const std::vector<std::filesystem::path>& files() const { return paths_; }
  uint64_t file_bytes(int file) const { return shards_[static_cast<size_t>(file)].file_bytes(); }

  // By name, sorted.
  const std::map<std::string_view, Tensor>& tensors() const { return tensors_; }
  const Tensor* find(std::string_view name) const;  // null when absent

  // Fills `out` with a tensor's bytes from `offset` on; requires that they lie in it.  Errors: kIo, kBadFile
  // (the file has become shorter).
  Status read(const Tensor& tensor, uint64_t offset, std::span<std::byte> out) const;
  // All elements of a small tensor of a plain float dtype.  kBadFile for more than `most` of them,
  // kUnsupported for another dtype.
  Result<std::vector<float>> read_floats(const Tensor& tensor, int64_t most) const;

 private:
  explicit HfCheckpoint(HfConfig config) : config_(std::move(config)) {}
  Status open_files(const std::vector<std::string>& names);

  std::filesystem::path folder_;
  HfConfig config_;
  std::vector<std::filesystem::path> paths_;
  std::vector<SafetensorsFile> shards_;
  std::vector<DirectFile> open_;
  std::map<std::string_view, Tensor> tensors_;  // names are the shards'
};

// A folder with a config.json: what HfCheckpoint::open() is for.
bool looks_like_hf_checkpoint(const std::filesystem::path& path);

}  // namespace odmoe
