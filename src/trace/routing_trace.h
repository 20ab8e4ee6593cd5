// Recorded routing: which experts a model chose, token by token and layer by layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

// Bounds of what is believed of a file.
inline constexpr uint32_t kMaxTraceLayers = 1024;
inline constexpr uint32_t kMaxTraceExperts = 4096;    // per layer
inline constexpr uint32_t kMaxTraceExpertsUsed = 64;  // per token and layer
inline constexpr uint32_t kMaxTraceSessions = 1 << 20;
inline constexpr uint64_t kMaxTraceChoices = 1ULL << 28U;  // experts chosen, of all sessions that are kept

// One event after another: a token's choice in one layer.  Immutable once read.
struct RoutingTrace {
  struct Event {
    int32_t layer = 0;
    uint32_t n_expert = 0;  // 1..n_expert_used
    uint64_t first = 0;     // in experts and weights
  };
  int32_t n_layer = 0;
  int32_t n_expert = 0;       // per layer
  int32_t n_expert_used = 0;  // most in an event
  int32_t n_session = 0;      // in the file, kept or not
  uint64_t expert_bytes = 0;  // mean of the layers; 0: the file does not say
  std::vector<Event> events;
  std::vector<int32_t> experts;
  std::vector<float> weights;  // the router's, 0 where the file has none

  std::span<const int32_t> experts_of(const Event& event) const {
    return std::span(experts).subspan(event.first, event.n_expert);
  }
  std::span<const float> weights_of(const Event& event) const {
    return std::span(weights).subspan(event.first, event.n_expert);
  }
};

// Sessions `first`, `first + step`, ... below `end`; all by default.
struct SessionRange {
  uint32_t first = 0, end = UINT32_MAX, step = 1;
  bool contains(uint32_t session) const {
    return session >= first && session < end && (session - first) % step == 0;
  }
};

// Fills the span from where it stopped before, and says how many bytes there were: fewer only at the end.
using TraceInput = std::function<Result<size_t>(std::span<std::byte>)>;
// Called now and then with the bytes read so far; false stops with kInterrupted.
using TraceProgress = std::function<bool(uint64_t bytes)>;

struct TraceOptions {
  std::vector<SessionRange> sessions;  // kept if in any; empty: all
  TraceProgress progress;              // may be empty
  bool keeps(uint32_t session) const;
};

// Reads a trace from its bytes, unpacked; `name` is what errors call it.  Formats, told by how they begin:
//   "MOERT01\0", u32 layers, experts, top_k, sessions; then for each session u32 n_tokens, u32
//   first_position,
//     u8 ids[n_tokens][layers][top_k], f16 probabilities[n_tokens][layers][top_k]; little endian;
//   "MOERT02\0": the same with u16 ids, for more than 256 experts;
//   CSV whose columns are named in the first line that is not a comment (#): `layer`; `step` or
//   `scheduler_step`;
//     `expert` with one choice a line, or `requested_experts` with all of an event's, separated by spaces;
//     optional `turn` (the session), `phase` (only 1, decoding, is kept if it occurs), `weight`.  Comments
//     may say n_layer=, n_expert= and, in lines that also say layer=, expert_bytes=.
// Errors: kBadFile (neither, damaged, truncated, beyond the bounds above), kUsage (no such session),
// kInterrupted, and those of `input`.
Result<RoutingTrace> parse_trace(const TraceInput& input, const std::string& name,
                                 const TraceOptions& options = {});

}  // namespace odmoe
