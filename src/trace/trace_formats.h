// The formats that parse_trace() tells apart.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>

#include "trace/routing_trace.h"

namespace odmoe {

inline constexpr std::array<char, 8> kBinaryTraceMagic = {'M', 'O', 'E', 'R', 'T', '0', '1', '\0'};

// The same with ids of two bytes, for more than 256 experts.
inline constexpr std::array<char, 8> kWideTraceMagic = {'M', 'O', 'E', 'R', 'T', '0', '2', '\0'};

// What follows the magic.
Result<RoutingTrace> parse_binary_trace(const TraceInput& input, const std::string& name,
                                        const TraceOptions& options, bool wide);
// `head` was read already.
Result<RoutingTrace> parse_csv_trace(std::span<const std::byte> head, const TraceInput& input,
                                     const std::string& name, const TraceOptions& options);

// The error of a trace without events.
Status finish_trace(RoutingTrace& trace, const std::string& name);

}  // namespace odmoe
