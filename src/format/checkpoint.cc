#include "format/checkpoint.h"

#include <utility>

#include "format/expert_directory.h"
#include "format/gguf_file.h"
#include "format/printable.h"

namespace odmoe {

Checkpoint::Checkpoint(KeyValues values, std::filesystem::path path)
    : KeyValues(std::move(values)), path_(std::move(path)) {}

const TensorInfo* Checkpoint::find_tensor(std::string_view tensor_name) const {
  const auto it = tensor_index_.find(tensor_name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

const std::filesystem::path& Checkpoint::path_of(const TensorInfo& tensor) const {
  return tensor.file < 0 ? path_ : files_[static_cast<size_t>(tensor.file)];
}

Status Checkpoint::index_tensors() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const auto [it, added] = tensor_index_.emplace(tensors_[i].name, i);
    if (added) continue;
    return fail(ErrorKind::kBadFile,
                "{} and {} both have tensor '{}'; they are not of one model: download them again",
                printable_path(path_of(tensors_[it->second])), printable_path(path_of(tensors_[i])),
                printable(tensors_[i].name));
  }
  return {};
}

Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::filesystem::path& path) {
  if (ExpertDirectory::is_one(path)) return ExpertDirectory::open(path);
  return GgufFile::open(path);
}

}  // namespace odmoe
