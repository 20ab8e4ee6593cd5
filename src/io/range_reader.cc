#include "io/range_reader.h"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/mutex.h"
#include "base/transfer.h"
#include "base/units.h"
#include "io/direct_file.h"

namespace odmoe {

Status RangeReader::read(const std::filesystem::path& path, uint64_t offset, std::span<std::byte> out) const {
  // Opened anew for each piece: thousands of files need no thousands of descriptors, and it takes
  // microseconds where the read takes milliseconds.
  ODMOE_ASSIGN_OR_RETURN(const DirectFile file, DirectFile::open(path, /*direct=*/true));
  const ReadAlignment alignment = file.alignment();
  const uint64_t start = round_down(offset, alignment.offset_bytes);
  const uint64_t skip = offset - start;
  const uint64_t bytes = round_up(skip + out.size(), alignment.offset_bytes);
  ODMOE_ASSIGN_OR_RETURN(AlignedBuffer bounce, take(bytes));
  uint64_t done = 0;
  while (done < skip + out.size()) {
    const int64_t n = read_some(file.descriptor(), start + done, bounce.span().subspan(done, bytes - done));
    if (n < 0) {
      return fail(ErrorKind::kIo, "reading {} at byte {} failed: {}; check the drive", path.string(),
                  start + done, std::generic_category().message(static_cast<int>(-n)));
    }
    const uint64_t end = done + static_cast<uint64_t>(n);
    // A short read leaves a place that may not be aligned: go on from the block before.
    const uint64_t next = end < skip + out.size() ? round_down(end, alignment.offset_bytes) : end;
    if (next == done) {
      return fail(ErrorKind::kBadFile, "{} ends before byte {}, where data should be; fetch it again",
                  path.string(), offset + out.size());
    }
    done = next;
  }
  if (!out.empty()) std::memcpy(out.data(), bounce.data() + skip, out.size());
  give_back(std::move(bounce));
  return {};
}

Result<AlignedBuffer> RangeReader::take(uint64_t bytes) const {
  {
    const MutexLock lock(mutex_);
    const auto found =
        std::ranges::find_if(free_, [&](const AlignedBuffer& buffer) { return buffer.size() >= bytes; });
    if (found != free_.end()) {
      AlignedBuffer buffer = std::move(*found);
      free_.erase(found);
      return buffer;
    }
    free_.clear();  // too small for what is read now
  }
  return AlignedBuffer::allocate(round_up(bytes, kMiB));
}

void RangeReader::give_back(AlignedBuffer buffer) const {
  const MutexLock lock(mutex_);
  free_.push_back(std::move(buffer));
}

}  // namespace odmoe
