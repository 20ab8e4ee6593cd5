#include "server/event_log.h"

#include <atomic>
#include <string>

namespace odmoe::server {
namespace {

std::atomic<bool> as_json = false;

}  // namespace

void log_as_json() {
  as_json = true;
  spdlog::set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})");
}

void log_event(spdlog::level::level_enum level, std::string_view event, const Json& fields) {
  if (!spdlog::should_log(level)) return;
  if (as_json) {
    Json line = {{"event", event}};
    for (const auto& [key, value] : fields.items()) line[key] = value;
    const std::string text = dump_json(line);
    spdlog::log(level, "{}", std::string_view(text).substr(1, text.size() - 2));
    return;
  }
  std::string text(event);
  for (const auto& [key, value] : fields.items()) text += " " + key + "=" + dump_json(value);
  spdlog::log(level, "{}", text);
}

}  // namespace odmoe::server
