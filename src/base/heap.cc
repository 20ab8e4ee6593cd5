#include "base/heap.h"

#include <cstdlib>  // says which C library this is

#if defined(__GLIBC__)
#include <malloc.h>
#elif defined(__APPLE__)
#include <malloc/malloc.h>
#endif

namespace odmoe {

void settle_heap() {
#if defined(__GLIBC__)
  // Left to itself glibc takes ever larger blocks from its arenas once one was freed, and eight arenas a
  // core, each of which keeps what its threads once took: 3.2 GB stayed after one request.
  mallopt(M_MMAP_THRESHOLD, 256 * 1024);
  mallopt(M_TRIM_THRESHOLD, 512 * 1024);
  mallopt(M_ARENA_MAX, 2);
#endif
}

void return_free_memory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#elif defined(__APPLE__)
  malloc_zone_pressure_relief(nullptr, 0);
#endif
}

}  // namespace odmoe
