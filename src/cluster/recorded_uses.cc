#include "cluster/recorded_uses.h"

#include <algorithm>
#include <utility>

#include "base/fingerprint.h"
#include "trace/trace_file.h"

namespace odmoe {

Result<std::vector<uint64_t>> recorded_uses(const std::filesystem::path& path, const Decoder& decoder) {
  std::vector<uint64_t> uses;
  if (path.empty()) return uses;
  ODMOE_ASSIGN_OR_RETURN(const RoutingTrace trace, read_trace(path));
  const std::vector<int>& layers = decoder.expert_layers();
  const ModelShape& shape = decoder.shape();
  const bool of_expert_layers = std::cmp_equal(trace.n_layer, layers.size());
  if (trace.n_expert != shape.router.n_expert || (!of_expert_layers && trace.n_layer != shape.n_layer)) {
    return fail(ErrorKind::kUsage,
                "{} was recorded from a model with {} layers of {} experts; this one has {} of {}",
                path.string(), trace.n_layer, trace.n_expert, layers.size(), shape.router.n_expert);
  }
  const auto n_expert = static_cast<size_t>(trace.n_expert);
  uses.resize(layers.size() * n_expert);
  for (const RoutingTrace::Event& event : trace.events) {
    const auto at = of_expert_layers ? layers.begin() + event.layer : std::ranges::find(layers, event.layer);
    if (at == layers.end()) continue;
    const auto index = static_cast<size_t>(at - layers.begin());
    for (const int32_t expert : trace.experts_of(event))
      ++uses[index * n_expert + static_cast<size_t>(expert)];
  }
  return uses;
}

std::string fingerprint_of_uses(std::span<const uint64_t> uses) {
  if (uses.empty()) return {};
  Fingerprint all;
  all.add(std::as_bytes(uses));
  return all.value().hex();
}

}  // namespace odmoe
