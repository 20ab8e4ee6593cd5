// Writing recorded routing for parse_trace() to read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

// One timeline.  The last index is the fastest.
struct TraceSession {
  uint32_t first_position = 0;
  std::vector<uint16_t> experts;  // [n_token, n_layer, n_expert_used]
  std::vector<uint16_t> weights;  // f16, of the same shape; none negative
};

struct TraceShape {
  uint32_t n_layer = 0;  // with experts
  uint32_t n_expert = 0;
  uint32_t n_expert_used = 0;
};

// The bytes of a binary trace: MOERT01 for up to 256 experts, MOERT02 for more (trace/routing_trace.h).
// kUsage when a session's sizes are not multiples of a token's or a shape is beyond the bounds there.
Result<std::string> serialise_trace(const TraceShape& shape, std::span<const TraceSession> sessions);

// Writes them, packed by xz when the path ends in ".xz".  kIo: what was written before is then of no use.
Status write_trace(const std::filesystem::path& path, const TraceShape& shape,
                   std::span<const TraceSession> sessions);

}  // namespace odmoe
