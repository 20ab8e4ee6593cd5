// Which sessions of a trace are meant.
#pragma once

#include <string>
#include <vector>

#include "odmoe/result.h"
#include "trace/routing_trace.h"

namespace odmoe::cli {

// Each item is 7, 0:100 or 0:421:60 (first:end:step); kUsage for others.
Result<std::vector<SessionRange>> parse_sessions(const std::vector<std::string>& items);

}  // namespace odmoe::cli
