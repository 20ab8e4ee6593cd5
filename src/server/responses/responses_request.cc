#include "server/responses/responses_request.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "server/limits.h"
#include "server/metadata.h"
#include "server/request_body.h"
#include "server/request_fields.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

// What may be included that answers have here, or that belongs to tools that are not there.
constexpr std::string_view kLogprobs = "message.output_text.logprobs";
constexpr std::string_view kEncrypted = "reasoning.encrypted_content";
constexpr auto kOthers = std::to_array<std::string_view>(
    {"code_interpreter_call.outputs", "computer_call_output.output.image_url", "file_search_call.results",
     "message.input_image.image_url", "web_search_call.action.sources", "web_search_call.results"});

ApiStatus read_include(const Fields& fields, ResponsesRequest& request) {
  const Json* include = fields.find("include");
  if (include == nullptr) return {};
  if (!include->is_array()) return bad_request("include", "include must be a list of names");
  for (const Json& name : *include) {
    const std::string text = name.is_string() ? name.get<std::string>() : "";
    if (text == kLogprobs) {
      request.settings.top_logprobs = std::max(request.settings.top_logprobs, 0);
    } else if (text == kEncrypted) {
      request.settings.encrypted = true;
    } else if (!std::ranges::contains(kOthers, text)) {
      return bad_request("include", "include: {} is not known: {} and {} are supported",
                         dump_json(name).substr(0, 64), kLogprobs, kEncrypted);
    }
  }
  return {};
}

ApiStatus read_top_logprobs(const Fields& fields, ResponsesRequest& request) {
  int32_t top = 0;
  ODMOE_RETURN_IF_ERROR(fields.read("top_logprobs", top, 0, kMaxTopLogprobs));
  if (top > 0) request.settings.top_logprobs = top;
  request.chat.top_logprobs = request.settings.top_logprobs;
  return {};
}

// A summary is the thought as it is: nobody shortens it here.
ApiStatus read_summary(const Fields& fields, ResponsesRequest& request) {
  const Json* reasoning = fields.find("reasoning");
  if (reasoning == nullptr || !reasoning->is_object()) return {};
  ODMOE_RETURN_IF_ERROR(
      check_members(*reasoning, {"effort", "summary", "generate_summary", "max_tokens", "enabled", "exclude"},
                    "reasoning"));
  const Fields inner(*reasoning, "reasoning.");
  for (const char* name : {"generate_summary", "summary"}) {
    std::string summary;
    ODMOE_RETURN_IF_ERROR(inner.read(name, summary));
    if (summary.empty()) continue;
    if (summary != "auto" && summary != "detailed") {
      return bad_request(inner.path(name), "{} must be auto or detailed: thoughts are not shortened here",
                         inner.path(name));
    }
    request.settings.summarize = true;
  }
  return {};
}

ApiStatus read_text(const Fields& fields, ChatRequest& request, RequestWork& work) {
  const Json* text = fields.find("text");
  if (text == nullptr) return {};
  if (!text->is_object()) return bad_request("text", "text must be an object");
  ODMOE_RETURN_IF_ERROR(check_members(*text, {"format", "verbosity"}, "text"));
  const Fields inner(*text, "text.");
  std::string verbosity = "medium";
  ODMOE_RETURN_IF_ERROR(inner.read("verbosity", verbosity));
  if (verbosity != "medium") {
    return bad_request(inner.path("verbosity"),
                       "text.verbosity is not supported: say it in the instructions");
  }
  if (const Json* format = inner.find("format")) {
    if (format->is_object() && format->value("type", Json()) == "json_schema" &&
        !format->contains("schema")) {
      return bad_request("text.format.schema", "text.format.schema is missing");
    }
    ODMOE_ASSIGN_OR_RETURN(request.form, form_of_object(*format, "text.format", work));
  }
  return {};
}

ApiStatus read_store(const Fields& fields, const std::shared_ptr<ResponseStore>& store,
                     ResponsesRequest& request) {
  const bool there = store && store->enabled();
  bool wanted = there;
  ODMOE_RETURN_IF_ERROR(fields.read("store", wanted));
  if (wanted && !there) {
    return bad_request("store",
                       "this server keeps no responses: leave store out, or start it with "
                       "--response-store");
  }
  if (wanted) request.settings.store = store;
  return {};
}

// A tool as responses have it: {"type": "function", "name", "parameters", ...}.
Json shown_tool(const Json& tool) {
  const auto inner = tool.find("function");
  Json shown = {{"type", "function"}};
  shown.update(inner == tool.end() ? tool : *inner);
  for (const char* name : {"description", "parameters"}) {
    if (!shown.contains(name)) shown[name] = nullptr;
  }
  if (!shown.contains("strict") || shown["strict"].is_null()) shown["strict"] = false;
  return shown;
}

// What the answer says again of the request, as it was taken: ,"NAME":VALUE,...
class Echo {
 public:
  Echo(const Fields& fields, RequestWork& work) : fields_(fields), work_(work) {}

  ApiStatus add(std::string_view name, const Json& value) { return add_text(name, dump_json(value)); }
  // The request's own, or this where it has none.
  ApiStatus add_given(const char* name, const Json& otherwise) {
    const Json* json = fields_.find(name);
    return add(name, json == nullptr || *json == "" ? otherwise : *json);
  }
  ApiStatus add_text(std::string_view name, std::string_view value) {
    ODMOE_RETURN_IF_ERROR(work_.take(name.size() + value.size() + 4));
    text_ += odmoe::format(",\"{}\":{}", name, value);
    return {};
  }
  std::string text() && { return std::move(text_); }

 private:
  const Fields& fields_;
  RequestWork& work_;
  std::string text_;
};

// A member of a member of the request; "null" where it is not there.
std::string inner_text(const Fields& fields, const char* name, const char* member) {
  const Json* json = fields.find(name);
  if (json == nullptr || !json->is_object()) return "null";
  const Json* value = Fields(*json).find(member);
  return value == nullptr ? "null" : dump_json(*value);
}

ApiResult<std::string> echo_of(const Fields& fields, const ResponsesRequest& request, RequestWork& work) {
  const ChatRequest& chat = request.chat;
  const ResponseSettings& settings = request.settings;
  Echo echo(fields, work);
  ODMOE_RETURN_IF_ERROR(echo.add("background", false));
  ODMOE_RETURN_IF_ERROR(echo.add_given("instructions", nullptr));
  ODMOE_RETURN_IF_ERROR(
      echo.add("max_output_tokens", chat.max_tokens < 0 ? Json(nullptr) : Json(chat.max_tokens)));
  ODMOE_RETURN_IF_ERROR(echo.add_given("max_tool_calls", nullptr));
  ODMOE_RETURN_IF_ERROR(echo.add("parallel_tool_calls", chat.parallel_tool_calls));
  ODMOE_RETURN_IF_ERROR(
      echo.add("previous_response_id", settings.previous.empty() ? Json(nullptr) : Json(settings.previous)));
  ODMOE_RETURN_IF_ERROR(echo.add_given("prompt_cache_key", nullptr));
  ODMOE_RETURN_IF_ERROR(echo.add_text(
      "reasoning",
      odmoe::format("{{\"effort\":{},\"summary\":{}}}", inner_text(fields, "reasoning", "effort"),
                    settings.summarize ? "\"detailed\"" : "null")));
  ODMOE_RETURN_IF_ERROR(echo.add_given("safety_identifier", nullptr));
  ODMOE_RETURN_IF_ERROR(echo.add("service_tier", "default"));
  ODMOE_RETURN_IF_ERROR(echo.add("store", settings.store != nullptr));
  ODMOE_RETURN_IF_ERROR(echo.add_given("temperature", 1.0));
  const std::string format = inner_text(fields, "text", "format");
  ODMOE_RETURN_IF_ERROR(
      echo.add_text("text", odmoe::format("{{\"format\":{},\"verbosity\":\"medium\"}}",
                                          format == "null" ? R"({"type":"text"})" : format)));
  ODMOE_RETURN_IF_ERROR(echo.add_given("tool_choice", "auto"));
  std::string tools;
  if (const Json* list = fields.find("tools"); list != nullptr && list->is_array()) {
    for (const Json& tool : *list) tools += (tools.empty() ? "" : ",") + dump_json(shown_tool(tool));
  }
  ODMOE_RETURN_IF_ERROR(echo.add_text("tools", "[" + tools + "]"));
  ODMOE_RETURN_IF_ERROR(echo.add("top_logprobs", std::max(settings.top_logprobs, 0)));
  ODMOE_RETURN_IF_ERROR(echo.add_given("top_p", 1.0));
  ODMOE_RETURN_IF_ERROR(echo.add("truncation", "disabled"));
  ODMOE_RETURN_IF_ERROR(echo.add_given("user", nullptr));
  ODMOE_RETURN_IF_ERROR(echo.add_given("metadata", Json::object()));
  return std::move(echo).text();
}

ApiResult<ResponsesRequest> read_responses(const Json& json, int32_t n_vocab,
                                           const std::shared_ptr<ResponseStore>& store, RequestWork& work) {
  ODMOE_RETURN_IF_ERROR(check_fields(json, responses_field_rules()));
  const Fields fields(json);
  ResponsesRequest request;
  ODMOE_RETURN_IF_ERROR(read_sampling(fields, n_vocab, request.chat));
  ODMOE_RETURN_IF_ERROR(read_text(fields, request.chat, work));
  ODMOE_RETURN_IF_ERROR(read_tools(fields, request.chat));
  ODMOE_RETURN_IF_ERROR(read_thinking(fields, request.chat));
  ODMOE_RETURN_IF_ERROR(read_summary(fields, request));
  ODMOE_RETURN_IF_ERROR(read_include(fields, request));
  ODMOE_RETURN_IF_ERROR(read_top_logprobs(fields, request));
  ODMOE_RETURN_IF_ERROR(check_metadata(fields));
  ODMOE_RETURN_IF_ERROR(read_store(fields, store, request));
  ODMOE_RETURN_IF_ERROR(read_responses_input(json, store, request, work));
  ODMOE_ASSIGN_OR_RETURN(request.settings.echo, echo_of(fields, request, work));
  return request;
}

}  // namespace

uint64_t ResponseSettings::bytes() const {
  uint64_t bytes = echo.size();
  for (const ResponseItemText& item : input) bytes += item.text.size();
  return bytes;
}

ApiResult<ResponsesRequest> parse_responses_request(std::string_view body, int32_t n_vocab,
                                                    const std::shared_ptr<ResponseStore>& store,
                                                    RequestWork* work) {
  return read_body<ResponsesRequest>(body, work, [&](const Json& json, RequestWork& bounds) {
    return read_responses(json, n_vocab, store, bounds);
  });
}

}  // namespace odmoe::server
