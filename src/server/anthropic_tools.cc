// The tools of a request in Anthropic's words.
#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "server/anthropic_request.h"
#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

// What Anthropic runs itself has types of its own, with a date in their names.
ApiStatus check_kind(const Fields& fields) {
  std::string type = "custom";
  ODMOE_RETURN_IF_ERROR(fields.read("type", type));
  if (type != "custom") {
    return bad_request(fields.path("type"),
                       "{}: tools of type custom are supported, which the client describes and runs, not "
                       "\"{}\"",
                       fields.path("type"), type.substr(0, 32));
  }
  bool deferred = false;
  ODMOE_RETURN_IF_ERROR(fields.read("defer_loading", deferred));
  if (deferred) {
    return bad_request(fields.path("defer_loading"), "{} is not supported: there is no search for tools",
                       fields.path("defer_loading"));
  }
  const Json* callers = fields.find("allowed_callers");
  if (callers != nullptr && !(callers->is_array() && std::ranges::contains(*callers, Json("direct")))) {
    return bad_request(fields.path("allowed_callers"), "{} must have \"direct\": only the model calls tools",
                       fields.path("allowed_callers"));
  }
  return {};
}

// As the others have it, {"type": "function", "function": {...}}.  What else stands in it is shown to the
// model, but for what is about how it is sent.
ApiResult<Json> as_function(const Json& tool, const std::string& param) {
  if (!tool.is_object()) return bad_request(param, "{} must be an object", param);
  ODMOE_RETURN_IF_ERROR(check_kind(Fields(tool, param + ".")));
  constexpr std::array<std::string_view, 6> kOfTheServer = {
      "type", "defer_loading", "allowed_callers", "cache_control", "eager_input_streaming", "input_schema"};
  Json function = Json::object();
  for (const char* name : {"name", "description"}) {
    if (tool.contains(name)) function[name] = tool[name];
  }
  if (const auto schema = tool.find("input_schema"); schema != tool.end() && !schema->is_null()) {
    if (!schema->is_object()) {
      return bad_request(param + ".input_schema", "{}.input_schema must be a JSON schema", param);
    }
    function["parameters"] = *schema;
  }
  for (const auto& [name, value] : tool.items()) {
    if (!value.is_null() && !function.contains(name) && !std::ranges::contains(kOfTheServer, name)) {
      function[name] = value;
    }
  }
  return Json{{"type", "function"}, {"function", std::move(function)}};
}

ApiStatus read_anthropic_choice(const Json& json, ChatRequest& request) {
  if (!json.is_object()) return bad_request("tool_choice", "tool_choice must be an object");
  const Fields fields(json, "tool_choice.");
  std::string type, name;
  ODMOE_RETURN_IF_ERROR(fields.read("type", type));
  ODMOE_RETURN_IF_ERROR(fields.read("name", name));
  bool one = false;
  ODMOE_RETURN_IF_ERROR(fields.read("disable_parallel_tool_use", one));
  request.parallel_tool_calls = !one;
  ToolChoice& choice = request.tool_choice;
  if (type == "none") {
    choice.kind = ToolChoice::Kind::kNone;
  } else if (type == "auto") {
    choice.kind = ToolChoice::Kind::kAuto;
  } else if (type != "any" && type != "tool") {
    return bad_request("tool_choice.type", "tool_choice.type must be auto, any, tool or none");
  } else if (request.tools.empty()) {
    return bad_request("tool_choice", "tool_choice asks for a call, and there are no tools");
  } else if (type == "any") {
    choice.kind = ToolChoice::Kind::kRequired;
  } else if (!std::ranges::contains(request.tools, name, &Tool::name)) {
    return bad_request("tool_choice.name", "tool_choice.name names a tool that is not among tools");
  } else {
    choice = {.kind = ToolChoice::Kind::kNamed, .name = std::move(name)};
  }
  return {};
}

}  // namespace

ApiStatus read_anthropic_tools(const Fields& fields, ChatRequest& request) {
  if (const Json* tools = fields.find("tools")) {
    if (!tools->is_array() || tools->size() > kMaxTools) {
      return bad_request("tools", "tools must be a list of at most {} tools", kMaxTools);
    }
    for (size_t i = 0; i < tools->size(); ++i) {
      const std::string param = odmoe::format("tools[{}]", i);
      ODMOE_ASSIGN_OR_RETURN(const Json tool, as_function((*tools)[i], param));
      ODMOE_RETURN_IF_ERROR(add_tool(tool, param + ".", request));
    }
  }
  const Json* choice = fields.find("tool_choice");
  return choice == nullptr ? ApiStatus() : read_anthropic_choice(*choice, request);
}

}  // namespace odmoe::server
