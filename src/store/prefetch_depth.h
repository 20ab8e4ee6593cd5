#pragma once

#include <cstdint>

namespace odmoe {

// How many prefetches are in flight together, at most.  Which is better is a matter of the drive, of what a
// read costs the processors and of how good the guesses are: to be found out by trying.
enum class PrefetchDepth : uint8_t { kFew, kMany };

}  // namespace odmoe
