// Traces on the disk, as they are or packed by xz.
#pragma once

#include <filesystem>

#include "odmoe/result.h"
#include "trace/routing_trace.h"

namespace odmoe {

// A file in one of parse_trace()'s formats, plain or .xz (told by its content), or a folder with an
// events.csv. Progress counts the file's bytes.  Errors: kNotFound, kIo, and those of parse_trace().
Result<RoutingTrace> read_trace(const std::filesystem::path& path, const TraceOptions& options = {});

}  // namespace odmoe
