// Packing by gzip, in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

std::vector<std::byte> gzip(std::span<const std::byte> bytes);

// Memory is taken as the data comes, not as the file claims.  kBadFile, naming `name`: not gzip, damaged,
// truncated, or more than `most_bytes` unpacked.
Result<std::vector<std::byte>> gunzip(std::span<const std::byte> packed, uint64_t most_bytes,
                                      const std::string& name);

}  // namespace odmoe
