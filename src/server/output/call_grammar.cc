#include "server/output/call_grammar.h"

#include <algorithm>
#include <string>
#include <utility>

#include "grammar/json_schema.h"

namespace odmoe::server {
namespace {

using grammar::ByteSet;
using CallForm = CallSyntax::Form;

constexpr int64_t kMostCalls = 16;

// What JSON writes.
std::string json_type_of(const ArgumentTypes& types) {
  if (types.object) return "object";
  if (types.array) return "array";
  if (types.number) return "number";
  return types.boolean ? "boolean" : "null";
}

}  // namespace

ApiResult<CallGrammar::Expression> CallGrammar::calls() {
  const bool named = request_->tool_choice.kind == ToolChoice::Kind::kNamed;
  const bool only_one = !request_->parallel_tool_calls || named;
  const Opening opening{.list = first(syntax_->list_open), .call = open_mark()};
  Opening begun = opening;
  std::string_view& mark = begun.list.empty() ? begun.call : begun.list;
  const bool is_begun = !begun_.empty() && mark.starts_with(begun_);
  if (is_begun) mark.remove_prefix(begun_.size());
  ODMOE_ASSIGN_OR_RETURN(const Expression one, one_of_tools(opening));
  Expression first_call = one;
  const bool differs = is_begun && !syntax_->in_list && (opening.list.empty() || syntax_->list_each);
  if (differs) {
    ODMOE_ASSIGN_OR_RETURN(first_call, one_of_tools(begun));
  }
  Expressions all = {first_call};
  if (!only_one) all.push_back(b_->repeat(b_->sequence({text(syntax_->between), one}), 0, kMostCalls - 1));
  Expression list = b_->sequence(std::move(all));
  const Expression gap = text(syntax_->gap);
  if (syntax_->in_list) {
    list = b_->sequence(
        {marks_.written(begun.call), gap, text("["), list, text("]"), gap, marks_.written(close_mark())});
  }
  if (syntax_->list_open.empty() || syntax_->list_each) return list;
  return b_->sequence(
      {marks_.written(begun.list), gap, list, gap, marks_.written(first(syntax_->list_close))});
}

ApiResult<CallGrammar::Expression> CallGrammar::one_of_tools(const Opening& opening) {
  Expressions ways;
  for (size_t i = 0; i < request_->tools.size(); ++i) {
    const Tool& tool = request_->tools[i];
    const bool named = request_->tool_choice.kind == ToolChoice::Kind::kNamed;
    if (named && tool.name != request_->tool_choice.name) continue;
    ODMOE_ASSIGN_OR_RETURN(const Expression way, call(tool, i, opening));
    ways.push_back(way);
  }
  return b_->shared(b_->choice(std::move(ways)));
}

ApiResult<CallGrammar::Expression> CallGrammar::call(const Tool& tool, size_t index, const Opening& opening) {
  ODMOE_RETURN_IF_ERROR(check_arguments(tool, index));
  ApiResult<Expression> inside = Expression{};
  switch (syntax_->form) {
    case CallForm::kValues:
      inside = value_call(tool, index);
      break;
    case CallForm::kNamed:
      inside = named_call(tool, index);
      break;
    case CallForm::kParameters:
      inside = parameter_call(tool, index);
      break;
    case CallForm::kGemma: {
      // Its readers take JSON too.
      ODMOE_ASSIGN_OR_RETURN(const Expression held, arguments(tool, index));
      inside = b_->sequence({text(tool.name), held});
      break;
    }
  }
  if (!inside.has_value() || syntax_->in_list) return inside;
  // White space stands inside of marks around a value; the other forms have it between their parts.
  const bool pad = syntax_->form == CallForm::kValues && !open_mark().empty();
  const Expression gap = text(pad ? syntax_->gap : "");
  Expressions parts = {marks_.written(opening.call), gap, *inside, gap, marks_.written(close_mark())};
  if (syntax_->list_each) {
    const Expression between = text(syntax_->gap);
    parts.insert(parts.begin(), {marks_.written(opening.list), between});
    parts.insert(parts.end(), {between, marks_.written(first(syntax_->list_close))});
  }
  return b_->sequence(std::move(parts));
}

ApiResult<CallGrammar::Expression> CallGrammar::value_call(const Tool& tool, size_t index) {
  if (syntax_->python) {
    ODMOE_ASSIGN_OR_RETURN(const Expression held, python_arguments(tool, index));
    return b_->sequence({text(tool.name + "("), held, text(")")});
  }
  ODMOE_ASSIGN_OR_RETURN(const Expression held, arguments(tool, index));
  if (syntax_->keyed) return b_->sequence({text("{\"" + tool.name + "\": "), held, text("}")});
  const auto key = [](std::string_view name) { return odmoe::format("\"{}\": ", name); };
  const std::string id = key(syntax_->id_key) + "\"";
  Expressions parts = {text("{")};
  if (syntax_->id_first) {
    parts.insert(parts.end(), {text(id), b_->repeat(b_->range('0', '9'), 1, 2), text("\", ")});
  }
  parts.insert(
      parts.end(),
      {text(key(syntax_->name_key) + "\"" + tool.name + "\", " + key(syntax_->arguments_key)), held});
  if (!syntax_->id_key.empty() && !syntax_->id_first) {
    parts.insert(parts.end(), {text(", " + id), characters(9, 9), text("\"")});
  }
  parts.push_back(text("}"));
  return b_->sequence(std::move(parts));
}

ApiResult<CallGrammar::Expression> CallGrammar::named_call(const Tool& tool, size_t index) {
  ODMOE_ASSIGN_OR_RETURN(const Expression held, arguments(tool, index));
  return b_->sequence({header(first(syntax_->header), tool.name), marks_.written(first(syntax_->header_end)),
                       held, text(first(syntax_->arguments_end))});
}

// `pattern` as CallSyntax::header has it.
CallGrammar::Expression CallGrammar::header(std::string_view pattern, std::string_view name) {
  Expressions parts;
  while (!pattern.empty()) {
    const size_t at =
        std::min({pattern.find("NAME"), pattern.find("INDEX"), pattern.find("ID"), pattern.size()});
    if (at > 0) parts.push_back(marks_.written(pattern.substr(0, at)));
    pattern.remove_prefix(at);
    if (pattern.starts_with("NAME")) {
      parts.push_back(text(name));
      pattern.remove_prefix(4);
    } else if (pattern.starts_with("INDEX")) {
      parts.push_back(b_->repeat(b_->range('0', '9'), 1, 3));
      pattern.remove_prefix(5);
    } else if (pattern.starts_with("ID")) {
      parts.push_back(characters(9, 10));
      pattern.remove_prefix(2);
    }
  }
  return b_->sequence(std::move(parts));
}

ApiResult<CallGrammar::Expression> CallGrammar::parameter_call(const Tool& tool, size_t index) {
  const ParameterSyntax& words = syntax_->parameters;
  const Expression gap = text(syntax_->gap);
  Expressions parts = {header("NAME" + std::string(words.name_end), tool.name), gap};
  for (const Argument& argument : arguments_of(tool)) {
    ODMOE_ASSIGN_OR_RETURN(Expression one, parameter(tool, index, argument.key));
    one = b_->sequence({one, gap});
    parts.push_back(argument.required ? one : b_->optional(one));
  }
  return b_->sequence(std::move(parts));
}

ApiResult<CallGrammar::Expression> CallGrammar::parameter(const Tool& tool, size_t index,
                                                          const std::string& key) {
  const ParameterSyntax& words = syntax_->parameters;
  const Json& schema = *argument_schema(tool, key);
  const ArgumentTypes types = argument_types(schema, tool.parameters);
  const std::string end = std::string(words.pad) + std::string(words.close);
  const auto whole = [&](std::string_view type, Expression value) {
    std::string key_end(words.key_end);
    if (!words.type_attribute.empty())
      key_end = odmoe::format("\" {}=\"{}{}", words.type_attribute, type, key_end);
    Expressions parts = {marks_.written(words.open), text(key), marks_.written(key_end)};
    if (!words.value_open.empty())
      parts.insert(parts.end(), {text(syntax_->gap), marks_.written(words.value_open)});
    parts.insert(parts.end(), {text(words.pad), value});
    return b_->sequence(std::move(parts));
  };
  Expressions ways;
  if (types.string || types.any()) {
    std::vector<std::string> values;
    const auto constants = schema.is_object() ? schema.find("enum") : schema.end();
    if (schema.is_object() && constants != schema.end() && constants->is_array()) {
      for (const Json& value : *constants) {
        if (value.is_string()) values.push_back(value.get<std::string>());
      }
    }
    const Expression value =
        values.empty() ? marks_.until(end) : b_->sequence({b_->one_of(values), marks_.written(end)});
    ways.push_back(whole(words.string_type, value));
  }
  // Text that may be a string may be anything; where it is said what it is, both can be told apart.
  const bool other = types.number || types.boolean || types.null || types.object || types.array;
  if (other && (ways.empty() || !words.type_attribute.empty())) {
    ODMOE_ASSIGN_OR_RETURN(const Expression value, argument(tool, index, key));
    const std::string type =
        words.string_type == "string" ? json_type_of(types) : std::string(words.json_type);
    ways.push_back(whole(type, b_->sequence({value, marks_.written(end)})));
  }
  return b_->choice(std::move(ways));
}

// key=value, key=value.
ApiResult<CallGrammar::Expression> CallGrammar::python_arguments(const Tool& tool, size_t index) {
  const std::vector<Argument> list = arguments_of(tool);
  // What may follow an argument, and what may stand where none came yet.
  Expression rest = b_->empty(), begin = b_->empty();
  for (size_t i = list.size(); i-- > 0;) {
    ODMOE_ASSIGN_OR_RETURN(const Expression value, argument(tool, index, list[i].key));
    const Expression one = b_->shared(b_->sequence({text(list[i].key + "="), value}));
    const Expression after = b_->shared(rest);
    const Expression first = b_->sequence({one, after}), next = b_->sequence({text(", "), one, after});
    begin = list[i].required ? first : b_->choice({first, begin});
    rest = list[i].required ? next : b_->choice({next, after});
  }
  return begin;
}

ApiStatus CallGrammar::check_arguments(const Tool& tool, size_t index) const {
  const Json& schema = tool.parameters;
  if (!holds(tool) || schema.is_null() || schema == true) return {};
  // Arguments are an object, whether the schema says so or not.
  const auto type = schema.is_object() ? schema.find("type") : schema.end();
  const bool allowed = schema.is_object() && (type == schema.end() || type->is_null() || *type == "object" ||
                                              (type->is_array() && std::ranges::contains(*type, "object")));
  if (allowed) return {};
  return bad_request(odmoe::format("tools[{}].function.parameters.type", index),
                     "tools[{}].function.parameters must be the schema of an object", index);
}

bool CallGrammar::holds(const Tool& tool) const {
  return held_ == Held::kAll || (held_ == Held::kStrict && tool.strict);
}

std::vector<CallGrammar::Argument> CallGrammar::arguments_of(const Tool& tool) const {
  std::vector<Argument> arguments;
  if (!tool.parameters.is_object()) return arguments;
  const auto properties = tool.parameters.find("properties"), required = tool.parameters.find("required");
  if (properties == tool.parameters.end() || !properties->is_object()) return arguments;
  const bool some = required != tool.parameters.end() && required->is_array();
  for (const auto& [key, schema] : properties->items()) {
    arguments.push_back({.key = key, .required = some && std::ranges::contains(*required, Json(key))});
  }
  return arguments;
}

ApiResult<CallGrammar::Expression> CallGrammar::arguments(const Tool& tool, size_t index) {
  if (!holds(tool) || tool.parameters.is_null() || tool.parameters.empty())
    return grammar::add_json_object(*b_);
  Json parameters = tool.parameters;
  if (parameters == true) parameters = Json::object();
  parameters["type"] = "object";
  const auto schema = grammar::add_json_schema(*b_, parameters);
  if (schema.has_value()) return *schema;
  return bad_request(odmoe::format("tools[{}].function.parameters", index), "{}", schema.error().message);
}

ApiResult<CallGrammar::Expression> CallGrammar::argument(const Tool& tool, size_t index,
                                                         const std::string& key) {
  Json schema = holds(tool) ? *argument_schema(tool, key) : Json(true);
  // What its references are of.
  for (const char* name : {"$defs", "definitions"}) {
    const auto found = tool.parameters.find(name);
    if (schema.is_object() && found != tool.parameters.end()) schema[name] = *found;
  }
  const auto added = grammar::add_json_schema(*b_, schema);
  if (added.has_value()) return *added;
  return bad_request(odmoe::format("tools[{}].function.parameters", index), "{}: {}", key,
                     added.error().message);
}

CallGrammar::Expression CallGrammar::characters(size_t least, size_t most) {
  ByteSet set;
  for (uint32_t c = 0; c < 128; ++c) {
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) set.set(c);
  }
  return b_->repeat(b_->bytes(set), static_cast<int64_t>(least), static_cast<int64_t>(most));
}

}  // namespace odmoe::server
