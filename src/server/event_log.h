// The server's log: one line per event, for people or, as JSON, for programs.
#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

#include "server/json_guard.h"

namespace odmoe::server {

// Every line as a JSON object: time, level, event and its fields.  Before anything is logged.
void log_as_json();

// "request method=GET path=/health status=200", or the same as JSON.
void log_event(spdlog::level::level_enum level, std::string_view event, const Json& fields);

}  // namespace odmoe::server
