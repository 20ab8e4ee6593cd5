// Tensors to and from safetensors.
#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

// Writes f32 tensors in this order, as F32 or F16, beside `path` and renames: the file is whole or not there.
// Clamped to f16's range.  kIo.
Status write_tensors(const std::filesystem::path& path,
                     const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                     const std::map<std::string, std::string>& metadata, bool half);

struct TensorFile {
  std::map<std::string, torch::Tensor> tensors;  // f32
  std::map<std::string, std::string> metadata;
};
// Errors: those of SafetensorsFile::open(); kBadFile for a tensor that is not F32.
Result<TensorFile> read_tensors(const std::filesystem::path& path);

}  // namespace odmoe
