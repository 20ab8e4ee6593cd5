#include "io/direct_mode.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cstdint>

namespace odmoe {

#ifdef __linux__

namespace {

// What direct I/O on an open file asks for.  Where the kernel or the file system does not say, 4096 suits
// every drive in use.
DirectMode query_direct(int descriptor) {
  DirectMode mode{.direct = true, .alignment = {.offset_bytes = 4096, .memory_bytes = 4096}};
#ifdef STATX_DIOALIGN
  struct statx info{};
  if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0) {
    const uint32_t offset = info.stx_dio_offset_align;
    const uint32_t memory = info.stx_dio_mem_align;
    if (offset == 0 || memory == 0) return {};  // the file system has no direct I/O for this file
    if (std::has_single_bit(offset) && std::has_single_bit(memory)) mode.alignment = {offset, memory};
  }
#endif
  return mode;
}

}  // namespace

DirectMode make_direct(int descriptor) {
  const int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0 || fcntl(descriptor, F_SETFL, flags | O_DIRECT) != 0) return {};
  const DirectMode mode = query_direct(descriptor);
  if (!mode.direct) fcntl(descriptor, F_SETFL, flags);
  return mode;
}

void end_direct(int descriptor) {
  const int flags = fcntl(descriptor, F_GETFL);
  if (flags >= 0) fcntl(descriptor, F_SETFL, flags & ~O_DIRECT);
}

#elifdef __APPLE__

// F_NOCACHE takes reads of any alignment; those on page boundaries avoid a copy.
DirectMode make_direct(int descriptor) {
  if (fcntl(descriptor, F_NOCACHE, 1) != 0) return {};
  const auto page = static_cast<uint32_t>(sysconf(_SC_PAGESIZE));
  return {.direct = true, .alignment = {.offset_bytes = page, .memory_bytes = page}};
}

void end_direct(int descriptor) { fcntl(descriptor, F_NOCACHE, 0); }

#else

DirectMode make_direct(int) { return {}; }

void end_direct(int) {}

#endif

}  // namespace odmoe
