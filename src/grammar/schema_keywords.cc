// Keywords that speak of one kind of value.
#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "grammar/formats.h"
#include "grammar/schema_reader.h"

namespace odmoe::grammar {
namespace {

bool is_integer(const SchemaJson& value) {
  return value.is_number_integer() ||
         (value.is_number() && std::floor(value.get<double>()) == value.get<double>());
}

std::string lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  return text;
}

}  // namespace

Result<int64_t> SchemaReader::count(const SchemaJson& schema, const char* name, int64_t otherwise) {
  const SchemaJson* value = keyword(schema, name);
  if (value == nullptr) return otherwise;
  constexpr double kMost = 1e9;
  if (!is_integer(*value) || value->get<double>() < 0) {
    return refuse(&schema, "{} must be an integer that is not negative", name);
  }
  // More than anybody writes bounds nothing from above.
  if (value->get<double>() > kMost) {
    if (otherwise < 0) return otherwise;
    return refuse(&schema, "{} {} is not supported: it is above {}", name, text_of(*value), kMost);
  }
  return static_cast<int64_t>(value->get<double>());
}

// Also in capitals, as Google's interfaces have them, and draft 3's "any".
Status SchemaReader::read_types(const SchemaJson& schema, Shape& shape) {
  const SchemaJson* type = keyword(schema, "type");
  if (type == nullptr) return {};
  const SchemaJson list = type->is_array() ? *type : SchemaJson::array({*type});
  if (list.empty()) return refuse(&schema, "type is empty");
  static constexpr auto kTypes =
      std::to_array<std::pair<std::string_view, uint8_t>>({{"null", kNullType},
                                                           {"boolean", kBooleanType},
                                                           {"number", kNumberType},
                                                           {"integer", kNumberType},
                                                           {"string", kStringType},
                                                           {"object", kObjectType},
                                                           {"array", kArrayType},
                                                           {"any", kAllTypes}});
  uint8_t types = 0;
  bool any_number = false;
  for (const SchemaJson& one : list) {
    const std::string name = one.is_string() ? lower_case(one.get<std::string>()) : "";
    const auto known = std::ranges::find(kTypes, name, &std::pair<std::string_view, uint8_t>::first);
    if (known == kTypes.end()) return refuse(&schema, "there is no type {}", text_of(one));
    types |= known->second;
    any_number = any_number || name == "number" || name == "any";
  }
  shape.types = types;
  if ((types & kNumberType) != 0 && !any_number) shape.number.integral = true;
  return {};
}

Status SchemaReader::read_values(const SchemaJson& schema, Shape& shape) {
  if (const auto constant = schema.find("const"); constant != schema.end()) {
    shape.values = {&*constant};
  }
  const SchemaJson* list = keyword(schema, "enum");
  if (list == nullptr) return {};
  if (!list->is_array()) return refuse(&schema, "enum must be a list of values");
  if (!work_->spend(list->size())) return refuse(&schema, "enum is too large");
  std::vector<const SchemaJson*> values;
  for (const SchemaJson& value : *list) {
    if (!shape.values || equal_json(value, *shape.values->front())) values.push_back(&value);
  }
  shape.values = std::move(values);
  return {};
}

Status SchemaReader::read_number(const SchemaJson& schema, Shape& shape) {
  static constexpr auto kNames = std::to_array<const char*>(
      {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"});
  const auto bound = [&](const char* plain, const char* exclusive, auto add) -> Status {
    const SchemaJson* number = keyword(schema, plain);
    const SchemaJson* strict = keyword(schema, exclusive);
    // Draft 4 says of the plain bound whether it is exclusive.
    const bool is_strict = strict != nullptr && strict->is_boolean() && strict->get<bool>();
    if (number != nullptr) {
      if (!number->is_number()) return refuse(&schema, "{} must be a number", plain);
      add(Decimal::of(*number), is_strict);
    }
    if (strict != nullptr && !strict->is_boolean()) {
      if (!strict->is_number()) return refuse(&schema, "{} must be a number", exclusive);
      add(Decimal::of(*strict), true);
    }
    return {};
  };
  NumberRule& rule = shape.number;
  ODMOE_RETURN_IF_ERROR(bound("minimum", "exclusiveMinimum", [&](const Decimal& number, bool exclusive) {
    rule.at_least(number, exclusive);
  }));
  ODMOE_RETURN_IF_ERROR(bound("maximum", "exclusiveMaximum", [&](const Decimal& number, bool exclusive) {
    rule.at_most(number, exclusive);
  }));
  if (const SchemaJson* factor = keyword(schema, "multipleOf")) {
    if (!factor->is_number() || !(factor->get<double>() > 0)) {
      return refuse(&schema, "multipleOf must be a number above 0");
    }
    rule.factors.push_back(Decimal::of(*factor));
  }
  for (const char* name : kNames) {
    if (keyword(schema, name) != nullptr) shape.about |= kNumberType;
  }
  const SchemaJson* format = keyword(schema, "format");
  if (format != nullptr && format->is_string()) {
    if (const auto known = number_format(format->get_ref<const std::string&>())) {
      rule.at_least(Decimal::parse(known->min), false);
      rule.at_most(Decimal::parse(known->max), false);
      rule.integral = rule.integral || known->integral;
    }
  }
  return {};
}

Status SchemaReader::read_text(const SchemaJson& schema, Shape& shape, Mode mode) {
  ODMOE_ASSIGN_OR_RETURN(shape.text.min_length, count(schema, "minLength", 0));
  ODMOE_ASSIGN_OR_RETURN(shape.text.max_length, count(schema, "maxLength", -1));
  const SchemaJson* pattern = keyword(schema, "pattern");
  if (pattern != nullptr) {
    if (!pattern->is_string()) return refuse(&schema, "pattern must be a string");
    ODMOE_ASSIGN_OR_RETURN(auto known, regex(&schema, pattern->get<std::string>()));
    if (mode == Mode::kWithin || known->exact) shape.text.conditions.push_back({.regex = std::move(known)});
  }
  const SchemaJson* format = keyword(schema, "format");
  if (format != nullptr && format->is_string() && mode == Mode::kWithin) {
    for (const std::string& known : format_patterns(format->get_ref<const std::string&>())) {
      ODMOE_ASSIGN_OR_RETURN(auto held, regex(&schema, known));
      shape.text.conditions.push_back({.regex = std::move(held)});
      shape.about |= kStringType;
    }
  }
  for (const char* name : {"minLength", "maxLength", "pattern"}) {
    if (keyword(schema, name) != nullptr) shape.about |= kStringType;
  }
  return {};
}

Status SchemaReader::read_array(const SchemaJson& schema, Shape& shape, Mode mode) {
  ODMOE_ASSIGN_OR_RETURN(shape.min_items, count(schema, "minItems", 0));
  ODMOE_ASSIGN_OR_RETURN(shape.max_items, count(schema, "maxItems", -1));
  ArrayLayer layer;
  const SchemaJson* prefix = keyword(schema, "prefixItems");
  const SchemaJson* rest = keyword(schema, "items");
  // Before 2020 a list of items was what prefixItems is now.
  if (rest != nullptr && rest->is_array()) {
    if (prefix == nullptr) prefix = rest;
    rest = keyword(schema, "additionalItems");
  }
  if (prefix != nullptr) {
    if (!prefix->is_array()) return refuse(&schema, "prefixItems must be a list");
    for (const SchemaJson& item : *prefix) layer.prefix.push_back({.schema = &item});
  }
  if (rest != nullptr) layer.rest = GoalItem{.schema = rest};
  if (!layer.prefix.empty() || layer.rest) {
    shape.arrays.push_back(std::make_shared<const ArrayLayer>(std::move(layer)));
    shape.about |= kArrayType;
  }
  if (const SchemaJson* unique = keyword(schema, "uniqueItems")) {
    if (!unique->is_boolean()) return refuse(&schema, "uniqueItems must be true or false");
    shape.unique_items = unique->get<bool>();
    shape.about |= kArrayType;
  }
  if (const SchemaJson* wanted = keyword(schema, "contains"); wanted != nullptr && mode == Mode::kWithin) {
    Contains contains{.goal = {.schema = wanted}};
    ODMOE_ASSIGN_OR_RETURN(contains.min, count(schema, "minContains", 1));
    ODMOE_ASSIGN_OR_RETURN(contains.max, count(schema, "maxContains", -1));
    shape.contains.push_back(contains);
    shape.about |= kArrayType;
  }
  if (shape.min_items > 0 || shape.max_items >= 0) shape.about |= kArrayType;
  return {};
}

Status SchemaReader::read_object(const SchemaJson& schema, Shape& shape) {
  ODMOE_ASSIGN_OR_RETURN(shape.min_members, count(schema, "minProperties", 0));
  ODMOE_ASSIGN_OR_RETURN(shape.max_members, count(schema, "maxProperties", -1));
  if (shape.min_members > 0 || shape.max_members >= 0) shape.about |= kObjectType;
  ObjectLayer layer;
  if (const SchemaJson* properties = keyword(schema, "properties")) {
    if (!properties->is_object()) return refuse(&schema, "properties must be an object");
    if (!work_->spend(properties->size() * 4)) return refuse(&schema, "properties is too large");
    ODMOE_RETURN_IF_ERROR(charge(&schema, properties->size() * 4));
    layer.named.reserve(properties->size());
    for (const auto& [name, value] : properties->items()) {
      layer.add(name, {.schema = &value});
      // Draft 3 says so at the member.
      const SchemaJson* required = keyword(value, "required");
      if (required != nullptr && required->is_boolean() && required->get<bool>()) shape.require(name);
    }
    shape.about |= kObjectType;
  }
  if (const SchemaJson* patterns = keyword(schema, "patternProperties")) {
    if (!patterns->is_object()) return refuse(&schema, "patternProperties must be an object");
    for (const auto& [pattern, value] : patterns->items()) {
      ODMOE_ASSIGN_OR_RETURN(auto known, regex(&schema, pattern));
      layer.patterns.push_back({.regex = std::move(known), .goal = {.schema = &value}});
    }
    shape.about |= kObjectType;
  }
  if (const SchemaJson* others = keyword(schema, "additionalProperties")) {
    layer.others = GoalItem{.schema = others};
    shape.about |= kObjectType;
  }
  if (!layer.named.empty() || !layer.patterns.empty() || layer.others) {
    shape.objects.push_back(std::make_shared<const ObjectLayer>(std::move(layer)));
  }
  if (const SchemaJson* names = keyword(schema, "propertyNames")) {
    add_to(shape.names, {.schema = names});
    shape.about |= kObjectType;
  }
  const SchemaJson* required = keyword(schema, "required");
  if (required == nullptr || required->is_boolean()) return {};
  if (!required->is_array()) return refuse(&schema, "required must be a list of names");
  // Not require(), which looks through those that are there.
  std::set<std::string> known(shape.required.begin(), shape.required.end());
  for (const SchemaJson& name : *required) {
    if (!name.is_string() || !work_->spend()) return refuse(&schema, "required must be a list of names");
    if (known.insert(name.get<std::string>()).second) shape.required.push_back(name.get<std::string>());
  }
  shape.about |= kObjectType;
  return {};
}

}  // namespace odmoe::grammar
