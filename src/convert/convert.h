// Makes an expert directory (docs/expert-directory.md) from any checkpoint.
//
// The directory is made in OUT.partial beside its final place and renamed when all of it is safe on the
// drive, so that OUT is never there half.  OUT.partial has a journal of the files that are complete; after a
// kill, a full drive or Ctrl-C the same conversion checks those and goes on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "convert/conversion_plan.h"
#include "convert/tensor_source.h"
#include "odmoe/result.h"

namespace odmoe {

struct ConvertProgress {
  enum class Phase : uint8_t { kChecking, kWriting };  // what an earlier attempt finished; the rest
  Phase phase = Phase::kWriting;
  uint64_t done = 0, total = 0;  // bytes of the phase
};

struct ConvertOptions {
  int threads = 4;  // that read, and compute where the source has something to compute; 1 to 256
  std::function<bool(const ConvertProgress&)> progress;  // false stops: kInterrupted
};

struct ConvertResult {
  uint64_t bytes = 0;       // of the directory
  uint64_t kept_bytes = 0;  // of them, from an earlier attempt
};

// Memory beyond the plan and the source: this many buffers of plan.buffer_bytes, and where experts are
// repacked a matrix for each thread that reads.
inline constexpr int kConvertBuffers = 8;

// Errors: kUsage (OUT is there already, or is being made by another process; nothing is overwritten); kIo
// (the drive is full, ...: what was made is kept); kInterrupted likewise; those of the source.
Result<ConvertResult> convert(const TensorSource& source, const ConversionPlan& plan,
                              const std::filesystem::path& out, const ConvertOptions& options);

// Where an unfinished conversion to `out` is.
std::filesystem::path partial_path(const std::filesystem::path& out);

}  // namespace odmoe
