#include "server/call_arguments.h"

#include <string>
#include <utility>

namespace odmoe::server {

Json arguments_object(const ChatToolCall& call) {
  if (call.arguments.find_first_not_of(" \t\r\n") == std::string::npos) return Json::object();
  auto json = parse_json(call.arguments);
  if (json.has_value() && json->is_object()) return *std::move(json);
  return {{"INVALID_JSON", call.arguments}};
}

}  // namespace odmoe::server
