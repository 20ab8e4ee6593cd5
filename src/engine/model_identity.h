// Which model an engine has open: the same for two only if every byte is the same that a result depends on.
//
// Seen are all values of the metadata, the table of tensors, and every byte of the dense weights, which are
// read when a model is opened anyway.  Experts are not: reading hundreds of GiB of them only to know them
// would take longer than what is saved by it.  For them stand
//   - in an expert directory, the checksums of all records, with which each record is compared whenever it is
//     read.  So a copy elsewhere, packed or not, is the same model.  One whose experts are repacked is
//     another, since their kernels round otherwise.
//   - in a GGUF, the stamps of the files that hold experts (io/file_stamp.h), mirrors among them, and 64
//     samples of 4 KiB, for what file systems without such stamps let pass.  Whoever writes to a file, puts
//     another in its place or copies it makes another stamp, whatever time he gives it afterwards.  So a copy
//     of a GGUF is another model to us, and so is one that was renamed or touched: what was saved is not
//     found then, never wrong.
// Not seen: bytes of experts that are changed beneath the file system or with the machine's clock set back to
// the tick of the first change; on file systems that keep no time of their own (io/file_stamp.h names them),
// changes that keep number, size and times, and fall between the samples.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/fingerprint.h"
#include "engine/drives.h"
#include "format/checkpoint.h"
#include "format/expert_source.h"
#include "io/file_stamp.h"
#include "odmoe/result.h"

namespace odmoe {

using StampFile = std::function<Result<FileStamp>(const std::filesystem::path&)>;

// Immutable, so thread-safe.
class ModelIdentity {
 public:
  // Of a model that was just opened.  Nothing of its experts may have been read yet: what is read later is
  // what check() answers for.  Reads none of the files.  kIo when one is gone.
  static Result<ModelIdentity> of(const Checkpoint& file, const ExpertSource& source,
                                  std::span<const ModelCopy> copies, StampFile stamp);

  // kBadFile naming a file of experts that is not as it was; what was computed since may be wrong.
  Status check() const;

  // All but the dense weights and the samples.
  const Fingerprint::Value& value() const { return value_; }

 private:
  explicit ModelIdentity(StampFile stamp) : stamp_(std::move(stamp)) {}

  StampFile stamp_;
  Fingerprint::Value value_;
  std::vector<std::pair<std::filesystem::path, FileStamp>> files_;  // of experts without checksums
};

// Of a model's metadata, its table of tensors, and the checksums of its experts or, where there are none,
// samples of them: the same for copies on different machines, in hexadecimal.  Of a share of the experts that
// of the model that it was made from.  Errors as sample_experts().
Result<std::string> identity_of_copies(const Checkpoint& file, const ExpertSource& source);

// Of samples of the experts, spread over layers, projections and experts; none where there are checksums.
// Takes about as long as 64 small reads.  kIo when one fails.
Result<Fingerprint::Value> sample_experts(const ExpertSource& source);

}  // namespace odmoe
