#include "train/weights_file.h"

#include <torch/torch.h>

#include <cstring>
#include <fstream>
#include <system_error>

#include "format/safetensors.h"

namespace odmoe {
namespace {

Status append(SafetensorsWriter& writer, const torch::Tensor& tensor, bool half) {
  constexpr double kLargestHalf = 65504;
  const torch::Tensor values =
      (half ? tensor.detach().clamp(-kLargestHalf, kLargestHalf).to(torch::kHalf) : tensor.detach())
          .contiguous();
  return writer.append({static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()});
}

}  // namespace

Status write_tensors(const std::filesystem::path& path,
                     const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                     const std::map<std::string, std::string>& metadata, bool half) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({.name = name, .dtype = half ? "F16" : "F32", .shape = tensor.sizes().vec()});
  }
  std::filesystem::path draft = path;
  draft += ".tmp";
  const auto write = [&]() -> Status {
    ODMOE_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::create(draft, entries, metadata, 64));
    for (const auto& [name, tensor] : tensors) ODMOE_RETURN_IF_ERROR(append(writer, tensor, half));
    return writer.finish();
  };
  Status status = write();
  std::error_code error;
  if (status.has_value()) {
    std::filesystem::rename(draft, path, error);
    if (error) status = fail(ErrorKind::kIo, "cannot write {}: {}", path.string(), error.message());
  }
  if (!status.has_value()) std::filesystem::remove(draft, error);
  return status;
}

Result<TensorFile> read_tensors(const std::filesystem::path& path) {
  ODMOE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::open(path));
  TensorFile result;
  result.metadata = file.metadata();
  std::ifstream stream(path, std::ios::binary);
  for (const SafetensorsTensor& tensor : file.tensors()) {
    if (tensor.dtype != "F32") {
      return fail(ErrorKind::kBadFile, "{}: {} is {}; F32 was expected", path.string(), tensor.name,
                  tensor.dtype);
    }
    torch::Tensor values = torch::empty(tensor.shape, torch::kFloat);
    stream.seekg(static_cast<std::streamoff>(tensor.offset));
    stream.read(static_cast<char*>(values.data_ptr()), static_cast<std::streamsize>(tensor.bytes));
    if (!stream) return fail(ErrorKind::kIo, "cannot read {} of {}", tensor.name, path.string());
    result.tensors.emplace(tensor.name, values);
  }
  return result;
}

}  // namespace odmoe
