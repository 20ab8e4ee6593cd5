// Any bytes as a routing trace, and a simulation of what came out.
//
//   trace_fuzzer -max_total_time=60 -rss_limit_mb=1024 NEW_CORPUS fuzz/corpus/trace
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "simulate/simulate.h"
#include "trace/routing_trace.h"

namespace odmoe {
namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

void fuzz(std::span<const uint8_t> bytes) {
  size_t at = 0;
  const auto trace = parse_trace(
      [&](std::span<std::byte> out) -> Result<size_t> {
        const size_t n = std::min(out.size(), bytes.size() - at);
        if (n > 0) std::memcpy(out.data(), bytes.data() + at, n);
        at += n;
        return n;
      },
      "fuzz");
  if (!trace.has_value()) {
    must(!trace.error().message.empty() && trace.error().message.find('\n') == std::string::npos);
    return;
  }
  for (const RoutingTrace::Event& event : trace->events) {
    must(event.layer >= 0 && event.layer < trace->n_layer);
    must(event.n_expert >= 1 && event.n_expert <= static_cast<uint32_t>(trace->n_expert_used));
    for (const int32_t expert : trace->experts_of(event)) must(expert >= 0 && expert < trace->n_expert);
  }
  // Policies take memory for every expert that the trace says there is.
  if (int64_t{trace->n_layer} * trace->n_expert * trace->n_expert_used > 1 << 16) return;
  const int64_t n_slot = int64_t{trace->n_expert_used} * 2;
  const auto hits = simulate(*trace, PolicyKind::kForecast, n_slot);
  const auto best = simulate_belady(*trace, n_slot);
  must(hits.has_value() && best.has_value() && hits->demands == best->demands && hits->hits <= best->hits);
}

}  // namespace
}  // namespace odmoe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  odmoe::fuzz({data, size});
  return 0;
}
