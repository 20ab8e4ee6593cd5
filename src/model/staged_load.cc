#include "model/staged_load.h"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <utility>

#include "backend/tensor_memory.h"
#include "base/joining_thread.h"
#include "base/units.h"
#include "io/bulk_read.h"

namespace odmoe {
namespace {

// Tensors that are read together, and where to.
struct Batch {
  size_t first = 0;  // of the tensors
  std::vector<BulkRange> ranges;
  bool alone = false;  // it has the whole staging buffer
};

// Batches have the halves of the staging buffer in turns; a tensor that does not fit in one has all of it.
std::vector<Batch> divide(std::span<const StagedTensor> tensors, std::span<std::byte> staging) {
  const uint64_t half = round_down(staging.size() / 2, 4096);
  std::vector<Batch> batches;
  for (size_t i = 0; i < tensors.size();) {
    assert(tensors[i].info->bytes <= staging.size());
    const bool alone = tensors[i].info->bytes > half;
    const size_t n_before = batches.size();
    std::span<std::byte> memory = alone ? staging : staging.subspan(n_before % 2 * half, half);
    Batch& batch = batches.emplace_back(Batch{.first = i, .ranges = {}, .alone = alone});
    for (; i < tensors.size() && tensors[i].info->bytes <= memory.size(); ++i) {
      const TensorInfo& info = *tensors[i].info;
      batch.ranges.push_back({info.file, info.offset, memory.first(info.bytes)});
      memory = memory.subspan(info.bytes);
      if (alone) {
        ++i;
        break;
      }
    }
  }
  return batches;
}

}  // namespace

Result<std::vector<Fingerprint::Value>> load_staged(AsyncReader& reader, std::vector<StagedTensor> tensors,
                                                    const StagedLoadOptions& options) {
  std::ranges::sort(tensors, {},
                    [](const StagedTensor& t) { return std::pair(t.info->file, t.info->offset); });
  const std::vector<Batch> batches = divide(tensors, options.staging);
  std::vector<Fingerprint::Value> digests(tensors.size());
  uint64_t bytes_read = 0;
  const auto read = [&](size_t i) -> Status {
    if (i < batches.size()) {
      BulkReadOptions bulk;
      if (options.progress)
        bulk.progress = [&](uint64_t done) { return options.progress(bytes_read + done); };
      ODMOE_RETURN_IF_ERROR(bulk_read(reader, batches[i].ranges, bulk));
      for (const BulkRange& range : batches[i].ranges) bytes_read += range.destination.size();
    }
    if (i + 1 >= batches.size() && options.all_read) options.all_read();
    return {};
  };
  const auto hand_over = [&](const Batch& batch) {
    std::atomic<size_t> next = 0;
    const auto work = [&] {
      for (size_t i = next++; i < batch.ranges.size(); i = next++) {
        const std::span<std::byte> bytes = batch.ranges[i].destination;
        digests[batch.first + i] = Fingerprint::of(bytes);
        write_tensor(tensors[batch.first + i].tensor, 0, bytes);
      }
    };
    std::vector<JoiningThread> helpers;
    for (int i = 1; i < options.threads; ++i) helpers.emplace_back(work);
    work();
  };

  ODMOE_RETURN_IF_ERROR(read(0));
  for (size_t i = 0; i < batches.size(); ++i) {
    Status next;
    const bool together = i + 1 < batches.size() && !batches[i].alone && !batches[i + 1].alone;
    {
      JoiningThread reading;
      if (together) reading = JoiningThread([&] { next = read(i + 1); });
      hand_over(batches[i]);
    }
    if (!together && i + 1 < batches.size()) next = read(i + 1);
    ODMOE_RETURN_IF_ERROR(next);
  }
  return digests;
}

}  // namespace odmoe
