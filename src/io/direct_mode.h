// Turning the page cache off for a file that is open: how each system spells that.
#pragma once

#include "io/async_reader.h"

namespace odmoe {

struct DirectMode {
  bool direct = false;
  ReadAlignment alignment;  // of offsets and lengths, and of memory; 1 and 1 where the page cache is used
};

// Where the file system allows it; the flag rather than a second open, so that it is the same file.
DirectMode make_direct(int descriptor);
// Back through the page cache, where alignment does not matter.
void end_direct(int descriptor);

}  // namespace odmoe
