// What form the answer is to have, in the words of OpenAI, vLLM, llama.cpp, SGLang, TGI and Ollama.
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "server/limits.h"
#include "server/request_parts.h"

namespace odmoe::server {
namespace {

ApiResult<AnswerForm> form_of_pattern(const Json& json, std::string param) {
  if (!json.is_string()) return bad_request(param, "{} must be a regular expression, as a string", param);
  return AnswerForm{
      .kind = AnswerForm::Kind::kPattern, .pattern = json.get<std::string>(), .param = std::move(param)};
}

ApiResult<AnswerForm> form_of_choice(const Json& json, std::string param) {
  AnswerForm form{.kind = AnswerForm::Kind::kChoice, .param = std::move(param)};
  if (!json.is_array() || json.empty() || json.size() > kMaxChoiceTexts) {
    return bad_request(form.param, "{} must be a list of 1 to {} strings", form.param, kMaxChoiceTexts);
  }
  for (const Json& text : json) {
    if (!text.is_string()) return bad_request(form.param, "{} must be a list of strings", form.param);
    form.choices.push_back(text.get<std::string>());
  }
  return form;
}

}  // namespace

// {"type": "json_object"}, also with a schema, {"type": "json_schema", "json_schema": {"schema": ...}}, and
// TGI's {"type": "json" or "regex", "value": ...}.
ApiResult<AnswerForm> form_of_object(const Json& json, const std::string& where, RequestWork& work) {
  if (!json.is_object()) return bad_request(where, "{} must be an object", where);
  const Fields format(json, where + ".");
  std::string type;
  ODMOE_RETURN_IF_ERROR(format.read("type", type));
  const Json* value = nullptr;
  std::string param;
  const auto find = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      value = format.find(name);
      param = format.path(name);
      if (value != nullptr) return true;
    }
    return false;
  };
  if (type == "text") return AnswerForm();
  if (type == "json_object") {
    if (find({"json_schema"})) {
      return bad_request(param, "{} goes with the type json_schema, not json_object", param);
    }
    if (find({"schema"}) && *value != Json::object()) return form_of_schema(*value, param, work);
    return AnswerForm{.kind = AnswerForm::Kind::kObject, .param = where};
  }
  if (type == "json_schema") {
    if (find({"json_schema"}) && value->is_object()) {
      const Fields inner(*value, param + ".");
      if (const Json* schema = inner.find("schema"))
        return form_of_schema(*schema, inner.path("schema"), work);
    } else if (find({"schema"})) {
      return form_of_schema(*value, param, work);
    }
    return bad_request(format.path("json_schema"), "{}.schema is missing", format.path("json_schema"));
  }
  if (type == "json" && find({"value", "schema"})) return form_of_schema(*value, param, work);
  if (type == "regex" && find({"value", "regex", "pattern"})) return form_of_pattern(*value, param);
  return bad_request(format.path("type"),
                     "{} must be text, json_object, json_schema, or json or regex with its value, not {}",
                     format.path("type"), format.has("type") ? "\"" + type.substr(0, 32) + "\"" : "missing");
}

namespace {

ApiResult<AnswerForm> form_of_response_format(const Json& json, RequestWork& work) {
  return form_of_object(json, "response_format", work);
}

// vLLM's: one of its members says the form.
ApiResult<AnswerForm> form_of_structured_outputs(const Json& json, RequestWork& work) {
  if (!json.is_object()) return bad_request("structured_outputs", "structured_outputs must be an object");
  const Fields fields(json, "structured_outputs.");
  for (const char* name : {"disable_fallback", "disable_any_whitespace", "disable_additional_properties"}) {
    bool wanted = false;
    ODMOE_RETURN_IF_ERROR(fields.read(name, wanted));
    // There is nothing to fall back to.
    if (wanted && std::string_view(name) != "disable_fallback") {
      return bad_request(fields.path(name), "{} is not supported: say it in the schema", fields.path(name));
    }
  }
  for (const char* name : {"grammar", "structural_tag", "whitespace_pattern"}) {
    const Json* value = fields.find(name);
    if (value == nullptr || *value == "") continue;
    return bad_request(fields.path(name), "{} is not supported: use json, regex or choice",
                       fields.path(name));
  }
  // One that is not known could be the form.
  constexpr std::array<std::string_view, 12> kKnown = {"json",
                                                       "regex",
                                                       "choice",
                                                       "json_object",
                                                       "grammar",
                                                       "structural_tag",
                                                       "whitespace_pattern",
                                                       "disable_fallback",
                                                       "disable_any_whitespace",
                                                       "disable_additional_properties",
                                                       "backend",
                                                       "_backend"};
  for (const auto& [name, value] : json.items()) {
    if (value.is_null() || std::ranges::contains(kKnown, name)) continue;
    return bad_request("structured_outputs", "structured_outputs has a member {} that is not known",
                       dump_json(name.substr(0, 64)));
  }
  AnswerForm form;
  const auto take = [&](ApiResult<AnswerForm> other) -> ApiStatus {
    if (!other.has_value()) return std::unexpected(other.error());
    if (form.kind != AnswerForm::Kind::kText) {
      return bad_request("structured_outputs", "{} and {} cannot both say the form of the answer", form.param,
                         other->param);
    }
    form = std::move(*other);
    return {};
  };
  if (const Json* value = fields.find("json"))
    ODMOE_RETURN_IF_ERROR(take(form_of_schema(*value, fields.path("json"), work)));
  if (const Json* value = fields.find("regex"))
    ODMOE_RETURN_IF_ERROR(take(form_of_pattern(*value, fields.path("regex"))));
  if (const Json* value = fields.find("choice"))
    ODMOE_RETURN_IF_ERROR(take(form_of_choice(*value, fields.path("choice"))));
  bool object = false;
  ODMOE_RETURN_IF_ERROR(fields.read("json_object", object));
  if (object) {
    ODMOE_RETURN_IF_ERROR(
        take(AnswerForm{.kind = AnswerForm::Kind::kObject, .param = fields.path("json_object")}));
  }
  return form;
}

}  // namespace

ApiResult<AnswerForm> form_of_schema(const Json& json, std::string param, RequestWork& work) {
  AnswerForm form{.kind = AnswerForm::Kind::kSchema, .param = std::move(param)};
  if (json.is_string()) {
    auto parsed = parse_json(json.get_ref<const std::string&>(), work);
    if (!parsed.has_value() && parsed.error().status != 400) return std::unexpected(parsed.error());
    if (!parsed.has_value()) return bad_request(form.param, "{}: {}", form.param, parsed.error().message);
    form.schema = std::move(*parsed);
  } else {
    form.schema = json;
  }
  if (!form.schema.is_object() && !form.schema.is_boolean()) {
    return bad_request(form.param, "{} must be a JSON schema", form.param);
  }
  return form;
}

ApiResult<AnswerForm> form_of_ollama(const Json& json, RequestWork& work) {
  if (json == "json") return AnswerForm{.kind = AnswerForm::Kind::kObject, .param = "format"};
  if (!json.is_object()) return bad_request("format", "format must be \"json\" or a JSON schema");
  return form_of_schema(json, "format", work);
}

ApiStatus read_format(const Fields& fields, CommonRequest& request, RequestWork& work) {
  using Read = ApiResult<AnswerForm> (*)(const Json&, RequestWork&);
  constexpr std::pair<const char*, Read> kWays[] = {
      {"response_format", form_of_response_format},
      {"json_schema",
       [](const Json& json, RequestWork& share) { return form_of_schema(json, "json_schema", share); }},
      {"guided_json",
       [](const Json& json, RequestWork& share) { return form_of_schema(json, "guided_json", share); }},
      {"guided_regex", [](const Json& json, RequestWork&) { return form_of_pattern(json, "guided_regex"); }},
      {"regex", [](const Json& json, RequestWork&) { return form_of_pattern(json, "regex"); }},
      {"guided_choice", [](const Json& json, RequestWork&) { return form_of_choice(json, "guided_choice"); }},
      {"structured_outputs", form_of_structured_outputs},
      {"format", form_of_ollama},
  };
  AnswerForm& form = request.form;
  for (const auto& [name, read] : kWays) {
    const Json* json = fields.find(name);
    if (json == nullptr || *json == "" || *json == Json::array()) continue;
    ODMOE_ASSIGN_OR_RETURN(AnswerForm other, read(*json, work));
    if (other.kind == AnswerForm::Kind::kText) continue;
    if (form.kind != AnswerForm::Kind::kText) {
      return bad_request(name, "{} and {} cannot both say the form of the answer", form.param, other.param);
    }
    form = std::move(other);
  }
  return {};
}

}  // namespace odmoe::server
