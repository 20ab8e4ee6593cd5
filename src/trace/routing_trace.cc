#include "trace/routing_trace.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "trace/trace_formats.h"

namespace odmoe {

bool TraceOptions::keeps(uint32_t session) const {
  return sessions.empty() ||
         std::ranges::any_of(sessions, [&](const SessionRange& range) { return range.contains(session); });
}

Result<RoutingTrace> parse_trace(const TraceInput& input, const std::string& name,
                                 const TraceOptions& options) {
  std::array<std::byte, kBinaryTraceMagic.size()> start{};
  ODMOE_ASSIGN_OR_RETURN(const size_t n, input(start));
  const std::span<const std::byte> head = std::span(start).first(n);
  const bool wide = n == start.size() && std::memcmp(start.data(), kWideTraceMagic.data(), n) == 0;
  if (wide || (n == start.size() && std::memcmp(start.data(), kBinaryTraceMagic.data(), n) == 0)) {
    return parse_binary_trace(input, name, options, wide);
  }
  return parse_csv_trace(head, input, name, options);
}

Status finish_trace(RoutingTrace& trace, const std::string& name) {
  if (!trace.events.empty()) return {};
  if (trace.n_session > 0) {
    return fail(ErrorKind::kUsage, "{} has sessions 0 to {}, but no tokens in those asked for", name,
                trace.n_session - 1);
  }
  return fail(ErrorKind::kBadFile, "{} has no routing in it", name);
}

}  // namespace odmoe
