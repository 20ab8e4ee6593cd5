// The tools of a request and which of them may be called.
#include <algorithm>
#include <cctype>
#include <set>
#include <utility>

#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

// {"type": "function", "function": {...}}, or the newer {"type": "function", "name": ..., ...} made into it.
ApiResult<Json> function_tool(const Json& tool, const std::string& param) {
  if (!tool.is_object()) return bad_request(param, "{} must be an object", param);
  const Fields fields(tool, param + ".");
  std::string type = "function";
  ODMOE_RETURN_IF_ERROR(fields.read("type", type));
  if (type != "function") {
    return bad_request(fields.path("type"), "{}: tools of type function are supported, not \"{}\"",
                       fields.path("type"), type.substr(0, 32));
  }
  Json whole = {{"type", "function"}};
  if (const Json* function = fields.find("function")) {
    if (!function->is_object())
      return bad_request(fields.path("function"), "{} must be an object", fields.path("function"));
    // What else stands beside it is shown to the model, as templates do; cache_control is for the server.
    whole = tool;
    whole.erase("cache_control");
    whole["type"] = "function";
    return whole;
  }
  if (!fields.has("name")) {
    return bad_request(param, "{} must be {{\"type\": \"function\", \"function\": {{...}}}}", param);
  }
  Json function = tool;
  function.erase("type");
  function.erase("cache_control");
  whole["function"] = std::move(function);
  return whole;
}

// The name in {"type": "function", "function": {"name": ...}} or the newer {"type": "function", "name": ...}.
ApiResult<std::string> named_function(const Json& json, const std::string& param,
                                      const ChatRequest& request) {
  const auto function = json.find("function");
  const bool inside = function != json.end() && function->is_object();
  std::string name;
  ODMOE_RETURN_IF_ERROR(
      Fields(inside ? *function : json, param + (inside ? ".function." : ".")).read("name", name));
  if (!std::ranges::contains(request.tools, name, &Tool::name)) {
    return bad_request(param, "{} names a function that is not among tools", param);
  }
  return name;
}

// {"mode": "auto" or "required", "tools": [...]}: the others are not shown to the model.
ApiStatus allow_tools(const Json& json, ChatRequest& request) {
  const std::string param = "tool_choice.allowed_tools";
  const Fields fields(json, param + ".");
  std::string mode = "auto";
  ODMOE_RETURN_IF_ERROR(fields.read("mode", mode));
  if (mode != "auto" && mode != "required") {
    return bad_request(fields.path("mode"), "{} must be auto or required", fields.path("mode"));
  }
  request.tool_choice.kind = mode == "auto" ? ToolChoice::Kind::kAuto : ToolChoice::Kind::kRequired;
  const Json* list = fields.find("tools");
  if (list == nullptr || !list->is_array() || list->empty() || list->size() > kMaxTools) {
    return bad_request(fields.path("tools"), "{} must be a list of 1 to {} tools", fields.path("tools"),
                       kMaxTools);
  }
  std::set<std::string> allowed;
  for (const Json& tool : *list) {
    if (!tool.is_object())
      return bad_request(fields.path("tools"), "{} must be objects", fields.path("tools"));
    ODMOE_ASSIGN_OR_RETURN(std::string name, named_function(tool, fields.path("tools"), request));
    allowed.insert(std::move(name));
  }
  for (size_t i = request.tools.size(); i-- > 0;) {
    if (allowed.contains(request.tools[i].name)) continue;
    request.tools.erase(request.tools.begin() + static_cast<ptrdiff_t>(i));
    request.conversation.tools.erase(request.conversation.tools.begin() + static_cast<ptrdiff_t>(i));
  }
  return {};
}

ApiStatus read_choice(const Json& given, ChatRequest& request) {
  ToolChoice& choice = request.tool_choice;
  const Json word = given.is_object() ? given.value("type", Json()) : given;
  if (word == "none") {
    choice.kind = ToolChoice::Kind::kNone;
  } else if (word == "auto") {
    choice.kind = ToolChoice::Kind::kAuto;
  } else if (request.tools.empty()) {
    return bad_request("tool_choice", "tool_choice asks for a call, and there are no tools");
  } else if (word == "required" || word == "any") {
    choice.kind = ToolChoice::Kind::kRequired;
  } else if (word == "function" && given.is_object()) {
    choice.kind = ToolChoice::Kind::kNamed;
    ODMOE_ASSIGN_OR_RETURN(choice.name, named_function(given, "tool_choice", request));
  } else if (word == "allowed_tools" && given.is_object()) {
    const auto inner = given.find("allowed_tools");
    return allow_tools(inner != given.end() && inner->is_object() ? *inner : given, request);
  } else {
    return bad_request("tool_choice",
                       "tool_choice must be none, auto, required, or an object of type function (with its "
                       "name) or allowed_tools");
  }
  return {};
}

}  // namespace

ApiStatus add_tool(const Json& tool, const std::string& where, ChatRequest& request) {
  const Json& function = tool["function"];
  Tool known;
  const Fields fields(function, where);
  ODMOE_RETURN_IF_ERROR(fields.read("name", known.name));
  ODMOE_RETURN_IF_ERROR(fields.read("strict", known.strict));
  const bool name_ok = !known.name.empty() && known.name.size() <= kMaxToolNameBytes &&
                       std::ranges::all_of(known.name, [](unsigned char c) {
                         return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
                       });
  if (!name_ok) {
    return bad_request(fields.path("name"), "{} must have 1 to {} letters, digits, _, - or .",
                       fields.path("name"), kMaxToolNameBytes);
  }
  if (std::ranges::contains(request.tools, known.name, &Tool::name)) {
    return bad_request(fields.path("name"), "there are two tools named {}", known.name);
  }
  if (function.contains("parameters")) known.parameters = function["parameters"];
  request.tools.push_back(std::move(known));
  request.conversation.tools.push_back(dump_json(tool));
  return {};
}

ApiStatus read_tools(const Fields& fields, ChatRequest& request) {
  if (const Json* tools = fields.find("tools")) {
    if (!tools->is_array() || tools->size() > kMaxTools) {
      return bad_request("tools", "tools must be a list of at most {} tools", kMaxTools);
    }
    for (size_t i = 0; i < tools->size(); ++i) {
      const std::string param = odmoe::format("tools[{}]", i);
      ODMOE_ASSIGN_OR_RETURN(const Json tool, function_tool((*tools)[i], param));
      const bool flat = !(*tools)[i].contains("function");
      ODMOE_RETURN_IF_ERROR(add_tool(tool, param + (flat ? "." : ".function."), request));
    }
  }
  ODMOE_RETURN_IF_ERROR(fields.read("parallel_tool_calls", request.parallel_tool_calls));
  const Json* choice = fields.find("tool_choice");
  return choice == nullptr || *choice == "" ? ApiStatus() : read_choice(*choice, request);
}

}  // namespace odmoe::server
