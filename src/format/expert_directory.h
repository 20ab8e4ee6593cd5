// An expert directory (docs/expert-directory.md): the checkpoint in which an expert is one contiguous record
// on a page boundary, with checksums, and which safetensors tools can read.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "format/checkpoint.h"
#include "format/expert_manifest.h"
#include "odmoe/result.h"

namespace odmoe {

class ExpertDirectory final : public Checkpoint {
 public:
  // Reads model.json, tokenizer.json and the headers of the dense tensors' files, and checks that every file
  // is there and as long as it must be.  Errors, naming the file: kNotFound (no model.json), kBadFile
  // (damaged, a file missing or too short), kUnsupported (another version, an unknown type), kIo.
  static Result<std::unique_ptr<ExpertDirectory>> open(const std::filesystem::path& path);

  // Whether `path` is a directory with a model.json.
  static bool is_one(const std::filesystem::path& path);

  Result<std::unique_ptr<ExpertSource>> expert_source(int n_layer, int n_expert,
                                                      int n_expert_used) const override;

  const RepackedExperts* repacked() const override {
    return manifest_.repacked ? &*manifest_.repacked : nullptr;
  }

  const ExpertShare* share() const override { return manifest_.share ? &*manifest_.share : nullptr; }

  const ExpertManifest& manifest() const { return manifest_; }

 private:
  ExpertDirectory(KeyValues values, std::filesystem::path path, ExpertManifest manifest);
  Status add_dense_files();
  Status add_expert_files();
  Status check_file(const std::filesystem::path& path, uint64_t least_bytes);

  ExpertManifest manifest_;
  std::vector<int> first_file_;  // by place in manifest_.layers, into files()
};

}  // namespace odmoe
