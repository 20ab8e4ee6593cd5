// The tools of a request and which of them may be called.
#include <algorithm>
#include <cctype>

#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {

ApiStatus read_tools(const Fields& fields, ChatRequest& request) {
  if (const Json* tools = fields.find("tools")) {
    if (!tools->is_array() || tools->size() > kMaxTools) {
      return bad_request("tools", "tools must be a list of at most {} tools", kMaxTools);
    }
    for (size_t i = 0; i < tools->size(); ++i) {
      const Json& tool = (*tools)[i];
      const std::string param = std::format("tools[{}]", i);
      if (!tool.is_object() || tool.value("type", Json()) != "function" || !tool.contains("function") ||
          !tool["function"].is_object()) {
        return bad_request(param, "{} must be {{\"type\": \"function\", \"function\": {{...}}}}", param);
      }
      const Json& function = tool["function"];
      Tool known;
      ODMOE_RETURN_IF_ERROR(Fields(function, param + ".function.").read("name", known.name));
      const bool name_ok = !known.name.empty() && known.name.size() <= 64 &&
                           std::ranges::all_of(known.name, [](unsigned char c) {
                             return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
                           });
      if (!name_ok) {
        return bad_request(param + ".function.name",
                           "{}.function.name must have 1 to 64 letters, digits, _, - or .", param);
      }
      if (std::ranges::contains(request.tools, known.name, &Tool::name)) {
        return bad_request(param + ".function.name", "there are two tools named {}", known.name);
      }
      if (function.contains("parameters")) known.parameters = function["parameters"];
      request.tools.push_back(std::move(known));
      request.conversation.tools.push_back(dump_json(tool));
    }
  }
  ODMOE_RETURN_IF_ERROR(fields.read("parallel_tool_calls", request.parallel_tool_calls));
  ToolChoice& choice = request.tool_choice;
  const Json* given = fields.find("tool_choice");
  if (given == nullptr) return {};
  if (request.tools.empty() && *given != "none") {
    return bad_request("tool_choice", "tool_choice is only allowed with tools");
  }
  if (*given == "none") {
    choice.kind = ToolChoice::Kind::kNone;
  } else if (*given == "auto") {
    choice.kind = ToolChoice::Kind::kAuto;
  } else if (*given == "required") {
    choice.kind = ToolChoice::Kind::kRequired;
  } else if (given->is_object() && given->value("type", Json()) == "function" &&
             given->contains("function") && (*given)["function"].is_object()) {
    choice.kind = ToolChoice::Kind::kNamed;
    ODMOE_RETURN_IF_ERROR(Fields((*given)["function"], "tool_choice.function.").read("name", choice.name));
    if (!std::ranges::contains(request.tools, choice.name, &Tool::name)) {
      return bad_request("tool_choice", "tool_choice names a function that is not among tools");
    }
  } else {
    return bad_request("tool_choice",
                       "tool_choice must be none, auto, required or a function's name in an object");
  }
  return {};
}

}  // namespace odmoe::server
