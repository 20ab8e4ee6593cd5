// A GGUF checkpoint as it lies on the disk: metadata and where every tensor's bytes are.  Versions 2 and 3,
// one file or a split (NAME-00001-of-000NN.gguf).  No tensor data is read here.
//
// Foreign bytes end here: after open() every offset and size has been checked against the files' lengths.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "format/checkpoint.h"
#include "odmoe/result.h"

namespace odmoe {

namespace gguf {
struct Header;
}  // namespace gguf

// Immutable after open(), so thread-safe.  Holds the first shard's header in memory (that is where a split
// model's metadata is); keeps no file open.
class GgufFile final : public Checkpoint {
 public:
  static constexpr int kMaxShards = 4096;

  // Opens `path`, and the other shards when it is the first of a split.  Errors, each one line naming the
  // file: kNotFound; kBadFile (not a GGUF, damaged header, tensor beyond the end of the file, a shard missing
  // or of another model); kUnsupported (version 1, big endian, a tensor type this build of ggml lacks); kIo
  // (no permission, a drive that fails).
  static Result<std::unique_ptr<GgufFile>> open(const std::filesystem::path& path);

  // The same checks on a file's first bytes, for fuzzing; one shard, no other file is opened.
  static Result<std::unique_ptr<GgufFile>> parse(std::span<const std::byte> bytes, uint64_t file_bytes);

  Result<std::unique_ptr<ExpertSource>> expert_source(int n_layer, int n_expert,
                                                      int n_expert_used) const override;

  int version() const { return static_cast<int>(version_); }

 private:
  GgufFile(gguf::Header header, std::filesystem::path path);

  // What errors call the file.
  std::string name() const;
  Status open_other_shards();
  Status add_shard(gguf::Header shard, std::filesystem::path path, int64_t number, int64_t count);

  uint32_t version_;
};

}  // namespace odmoe
