// Loading tensors whose bytes in memory are not those of the file, or which are not in memory of ours.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/fingerprint.h"
#include "format/checkpoint.h"
#include "io/async_reader.h"
#include "odmoe/result.h"

namespace odmoe {

struct StagedTensor {
  const TensorInfo* info = nullptr;
  ggml_tensor* tensor = nullptr;
};

struct StagedLoadOptions {
  std::span<std::byte> staging;  // as large as the largest of them
  int threads = 1;               // that hand over what was read
  // Called with the bytes read so far, from one thread or another; false ends with kInterrupted.
  std::function<bool(uint64_t bytes_done)> progress;
  std::function<void()> all_read;  // called once, from any thread, when the drive is not needed any more
};

// Reads `tensors` in the order of the files, a batch at a time, and hands each batch to its tensors' buffers
// while the next one is read, as far as two batches fit in the staging buffer.  Returns the fingerprints of
// what was read, in that order.  Errors: as bulk_read().
Result<std::vector<Fingerprint::Value>> load_staged(AsyncReader& reader, std::vector<StagedTensor> tensors,
                                                    const StagedLoadOptions& options);

}  // namespace odmoe
