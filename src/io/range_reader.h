// Reads of pieces of many files, each waited for: for tools that read everything once, with several threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/mutex.h"
#include "odmoe/result.h"

namespace odmoe {

// Past the page cache where the file system has direct I/O: what is read once need not be kept.  Thread-safe.
class RangeReader {
 public:
  // Fills `out` with the bytes from `offset` on.  Takes as much memory again while it reads, and keeps it for
  // the next.  Errors: kNotFound; kBadFile when the file ends before; kIo; each naming the path.
  Status read(const std::filesystem::path& path, uint64_t offset, std::span<std::byte> out) const;

 private:
  Result<AlignedBuffer> take(uint64_t bytes) const;
  void give_back(AlignedBuffer buffer) const;

  mutable Mutex mutex_;
  mutable std::vector<AlignedBuffer> free_ ODMOE_GUARDED_BY(mutex_);
};

}  // namespace odmoe
