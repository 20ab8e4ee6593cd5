#include "server/output/argument_types.h"

#include <algorithm>
#include <string>
#include <utility>

#include "server/json_guard.h"
#include "server/output/text.h"

namespace odmoe::server {
namespace {

constexpr int kMaxSchemaDepth = 16;  // of references and alternatives

void add_type(const Json& name, ArgumentTypes& types) {
  types.string |= name == "string";
  types.number |= name == "number" || name == "integer";
  types.boolean |= name == "boolean";
  types.null |= name == "null";
  types.object |= name == "object";
  types.array |= name == "array";
}

void add_type_of(const Json& value, ArgumentTypes& types) {
  types.string |= value.is_string();
  types.number |= value.is_number();
  types.boolean |= value.is_boolean();
  types.null |= value.is_null();
  types.object |= value.is_object();
  types.array |= value.is_array();
}

// "#/$defs/NAME": null where it leads nowhere.
const Json* resolve_reference(std::string_view reference, const Json& root) {
  if (!reference.starts_with("#/")) return nullptr;
  const Json* at = &root;
  reference.remove_prefix(2);
  while (at != nullptr && !reference.empty()) {
    const size_t slash = std::min(reference.find('/'), reference.size());
    const auto found = at->is_object() ? at->find(reference.substr(0, slash)) : at->end();
    at = found == at->end() ? nullptr : &*found;
    reference.remove_prefix(std::min(slash + 1, reference.size()));
  }
  return at;
}

void collect_types(const Json& schema, const Json& root, int depth, ArgumentTypes& types) {
  if (!schema.is_object() || depth == kMaxSchemaDepth) return;
  const auto member = [&](const char* key) -> const Json* {
    const auto found = schema.find(key);
    return found == schema.end() ? nullptr : &*found;
  };
  if (const Json* type = member("type")) {
    if (type->is_array()) {
      for (const Json& name : *type) add_type(name, types);
    } else {
      add_type(*type, types);
    }
    types.null |= schema.value("nullable", Json(false)) == true;
    return;
  }
  if (const Json* values = member("enum"); values != nullptr && values->is_array()) {
    for (const Json& value : *values) add_type_of(value, types);
  } else if (const Json* constant = member("const")) {
    add_type_of(*constant, types);
  } else if (const Json* reference = member("$ref"); reference != nullptr && reference->is_string()) {
    const Json* target = resolve_reference(reference->get_ref<const std::string&>(), root);
    if (target != nullptr) collect_types(*target, root, depth + 1, types);
  } else {
    for (const char* key : {"anyOf", "oneOf", "allOf"}) {
      const Json* list = member(key);
      if (list == nullptr || !list->is_array()) continue;
      for (const Json& one : *list) collect_types(one, root, depth + 1, types);
    }
    types.object |= member("properties") != nullptr;
  }
}

bool is_of_types(const Json& value, const ArgumentTypes& types) {
  if (types.any()) return !value.is_string();
  return (value.is_number() && types.number) || (value.is_boolean() && types.boolean) ||
         (value.is_null() && types.null) || (value.is_object() && types.object) ||
         (value.is_array() && types.array);
}

}  // namespace

ArgumentTypes argument_types(const Json& schema, const Json& root) {
  ArgumentTypes types;
  collect_types(schema, root, 0, types);
  return types;
}

const Json* argument_schema(const Tool& tool, std::string_view key) {
  if (!tool.parameters.is_object()) return nullptr;
  const auto properties = tool.parameters.find("properties");
  if (properties == tool.parameters.end() || !properties->is_object()) return nullptr;
  const auto found = properties->find(key);
  return found == properties->end() ? nullptr : &*found;
}

Json typed_argument(std::string_view text, const ArgumentTypes& types) {
  const std::string_view word = trim_text(text);
  const bool only_string =
      types.string && !types.number && !types.boolean && !types.null && !types.object && !types.array;
  if (only_string || word.empty()) return std::string(text);
  // Models that think in Python.
  if (types.boolean && (word == "True" || word == "False")) return word == "True";
  if (types.null && word == "None") return nullptr;
  auto json = parse_json(word);
  return json.has_value() && is_of_types(*json, types) ? std::move(*json) : Json(std::string(text));
}

}  // namespace odmoe::server
