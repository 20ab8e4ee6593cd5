// Fills buffers with several threads and empties them in order with one, so that reading, computing and
// writing go on at once in a bounded amount of memory.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "odmoe/result.h"

namespace odmoe {

struct OrderedPipelineOptions {
  size_t n_item = 0;
  size_t buffer_bytes = 0;  // of each buffer
  int n_buffer = 8;         // filled and waiting, or being filled
  int n_thread = 4;         // that fill
};

// `fill(item, buffer)` is called by several threads at once, `drain(item, buffer)` in the calling thread, for
// items 0, 1, 2...; each item's buffer is the same in both.  Ends with the first error of either, once no
// thread is in a call any more.
Status run_ordered(const OrderedPipelineOptions& options,
                   const std::function<Status(size_t item, std::span<std::byte> buffer)>& fill,
                   const std::function<Status(size_t item, std::span<std::byte> buffer)>& drain);

}  // namespace odmoe
