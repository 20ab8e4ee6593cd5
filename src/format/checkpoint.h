// A model as it lies on the disk, whatever its format: metadata in GGUF's names, where every tensor's bytes
// are, and where the routed experts'.  What model and engine are built from.
//
// Foreign bytes end here: once a checkpoint is open, every offset and size has been checked against the
// files' lengths.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "format/expert_share.h"
#include "format/expert_source.h"
#include "format/key_values.h"
#include "format/repacked_experts.h"
#include "format/tensor_info.h"
#include "odmoe/result.h"

namespace odmoe {

// Immutable, so thread-safe.  Keeps no file open.
class Checkpoint : public KeyValues {
 public:
  virtual ~Checkpoint() = default;
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  // What the user named, and what errors call the model.
  const std::filesystem::path& path() const { return path_; }

  // Those that TensorInfo::file and SliceLocation::file number; the first tells which drive the model is on.
  const std::vector<std::filesystem::path>& files() const { return files_; }
  uint64_t total_bytes() const { return total_bytes_; }  // of all files

  // Names in GGUF's form.  An expert stack ("blk.3.ffn_up_exps.weight") may have no place of its own
  // (TensorInfo::file -1): expert_source() knows where its experts are.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find_tensor(std::string_view name) const;  // null when absent
  // The file that a tensor lies in, for error messages; path() for one without a place of its own.
  const std::filesystem::path& path_of(const TensorInfo& tensor) const;

  // Where the experts of the first n_layer layers are; its files are files().  The numbers are the model's,
  // from its metadata; checks that tensors agree with them.  The result does not refer to the checkpoint.
  virtual Result<std::unique_ptr<ExpertSource>> expert_source(int n_layer, int n_expert,
                                                              int n_expert_used) const = 0;

  // How those experts lie whose TensorInfo::repacked is set; null where none is.
  virtual const RepackedExperts* repacked() const { return nullptr; }
  // Whose experts alone there are; null: all of them.
  virtual const ExpertShare* share() const { return nullptr; }

 protected:
  Checkpoint(KeyValues values, std::filesystem::path path);

  // Fills in tensor_index_ from tensors_, which then stay as they are.  kBadFile for a name that is there
  // twice.
  Status index_tensors();

  std::filesystem::path path_;
  std::vector<std::filesystem::path> files_;
  uint64_t total_bytes_ = 0;
  std::vector<TensorInfo> tensors_;

 private:
  std::map<std::string_view, size_t> tensor_index_;  // by name, into tensors_
};

// Opens what `path` is: a GGUF, the first shard of a split one, or an expert directory (with a model.json).
// Errors: those of GgufFile::open, which tell people what they gave by mistake, and of ExpertDirectory::open.
Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::filesystem::path& path);

}  // namespace odmoe
