// What is not valid under a schema: some of it where shapes cannot say all.
#include <algorithm>
#include <utility>

#include "grammar/schema_reader.h"

namespace odmoe::grammar {

// Anything but these.
Shapes SchemaReader::not_values(const std::vector<const SchemaJson*>& values) {
  Shape others;
  others.excluded = values;
  std::vector<std::string> texts;
  bool no_true = false, no_false = false;
  for (const SchemaJson* value : values) {
    if (value->is_null()) others.types &= ~kNullType;
    if (value->is_boolean()) (value->get<bool>() ? no_true : no_false) = true;
    if (value->is_number()) others.number.excluded.push_back(Decimal::of(*value));
    if (value->is_string()) texts.push_back(value->get<std::string>());
  }
  if (!texts.empty()) {
    others.text.conditions.push_back(
        {.regex = std::make_shared<const Regex>(literal_regex(texts)), .negated = true});
  }
  Shapes shapes;
  if (no_true || no_false) {
    static const SchemaJson kTrue = true, kFalse = false;
    others.types &= ~kBooleanType;
    Shape other;
    other.types = kBooleanType;
    other.values = {no_true ? &kFalse : &kTrue};
    if (no_true != no_false) shapes.push_back(std::move(other));
  }
  shapes.push_back(std::move(others));
  return shapes;
}

Status SchemaReader::negate_scalars(const SchemaJson& schema, Shapes& shapes) {
  Shape own;
  ODMOE_RETURN_IF_ERROR(read_types(schema, own));
  if (own.types != kAllTypes) {
    Shape other;
    other.types = static_cast<uint8_t>(~own.types & kAllTypes);
    if (other.types != 0) shapes.push_back(std::move(other));
  }
  if (own.number.integral) {
    Shape fractional;
    fractional.types = kNumberType;
    fractional.number.fractional = true;
    shapes.push_back(std::move(fractional));
  }
  ODMOE_RETURN_IF_ERROR(read_values(schema, own));
  if (own.values) {
    Shapes others = not_values(*own.values);
    shapes.insert(shapes.end(), others.begin(), others.end());
  }
  // A bound turned around.
  own.number = {};
  ODMOE_RETURN_IF_ERROR(read_number(schema, own));
  const SchemaJson* format = keyword(schema, "format");
  const bool plain = format == nullptr || !format->is_string();
  const auto add = [&](JsonType type, auto change) {
    Shape shape;
    shape.types = type;
    change(shape);
    shapes.push_back(std::move(shape));
  };
  if (own.number.min && plain) {
    add(kNumberType, [&](Shape& shape) { shape.number.at_most(*own.number.min, !own.number.above_min); });
  }
  if (own.number.max && plain) {
    add(kNumberType, [&](Shape& shape) { shape.number.at_least(*own.number.max, !own.number.below_max); });
  }
  ODMOE_RETURN_IF_ERROR(read_text(schema, own, Mode::kAround));
  if (own.text.min_length > 0) {
    add(kStringType, [&](Shape& shape) { shape.text.max_length = own.text.min_length - 1; });
  }
  if (own.text.max_length >= 0) {
    add(kStringType, [&](Shape& shape) { shape.text.min_length = own.text.max_length + 1; });
  }
  for (const TextRule::Condition& condition : own.text.conditions) {
    add(kStringType,
        [&](Shape& shape) { shape.text.conditions.push_back({.regex = condition.regex, .negated = true}); });
  }
  return {};
}

Status SchemaReader::negate_members(const SchemaJson& schema, Shapes& shapes) {
  Shape own;
  ODMOE_RETURN_IF_ERROR(read_array(schema, own, Mode::kWithin));
  ODMOE_RETURN_IF_ERROR(read_object(schema, own));
  const auto add = [&](JsonType type, auto change) {
    Shape shape;
    shape.types = type;
    change(shape);
    shapes.push_back(std::move(shape));
  };
  if (own.min_items > 0) add(kArrayType, [&](Shape& shape) { shape.max_items = own.min_items - 1; });
  if (own.max_items >= 0) add(kArrayType, [&](Shape& shape) { shape.min_items = own.max_items + 1; });
  if (own.min_members > 0) add(kObjectType, [&](Shape& shape) { shape.max_members = own.min_members - 1; });
  if (own.max_members >= 0) add(kObjectType, [&](Shape& shape) { shape.min_members = own.max_members + 1; });
  for (const Contains& contains : own.contains) {
    if (contains.min != 1 || contains.max >= 0) continue;
    auto layer = std::make_shared<ArrayLayer>();
    layer->rest = GoalItem{.schema = contains.goal.schema, .negated = true};
    add(kArrayType, [&](Shape& shape) { shape.arrays.push_back(std::move(layer)); });
  }
  for (const auto& layer : own.arrays) {
    if (!layer->prefix.empty() || !layer->rest) continue;
    const GoalItem wrong{.schema = layer->rest->schema, .negated = true};
    add(kArrayType, [&](Shape& shape) { shape.contains.push_back({.goal = wrong}); });
  }
  for (const std::string& name : own.required) {
    shapes.push_back(absent(name));
    shapes.back().types = kObjectType;
  }
  for (const auto& layer : own.objects) {
    for (const auto& [name, goal] : layer->named) {
      // Of a member that may be anything none is wrong.
      if (goal.schema->empty() || (goal.schema->is_boolean() && goal.schema->get<bool>())) continue;
      auto wrong = std::make_shared<ObjectLayer>();
      wrong->add(name, {.schema = goal.schema, .negated = true});
      add(kObjectType, [&](Shape& shape) {
        shape.require(name);
        shape.objects.push_back(std::move(wrong));
      });
    }
  }
  return {};
}

Status SchemaReader::negate_combinations(const SchemaJson& schema, Shapes& shapes) {
  const auto add = [&](const Goal& goal) -> Status {
    ODMOE_ASSIGN_OR_RETURN(const Shapes some, read_all(goal, Mode::kWithin));
    shapes.insert(shapes.end(), some.begin(), some.end());
    return {};
  };
  if (keyword(schema, "$ref") != nullptr) {
    ODMOE_ASSIGN_OR_RETURN(const SchemaJson* there, target(schema));
    ODMOE_RETURN_IF_ERROR(add({{.schema = there, .negated = true}}));
  }
  for (const char* name : {"allOf", "anyOf", "oneOf"}) {
    const SchemaJson* list = keyword(schema, name);
    if (list == nullptr) continue;
    if (!list->is_array()) return refuse(&schema, "{} must be a list of schemas", name);
    Goal none;
    for (const SchemaJson& one : *list) {
      const GoalItem wrong{.schema = &one, .negated = true};
      add_to(none, wrong);
      if (name == std::string_view("allOf")) ODMOE_RETURN_IF_ERROR(add({wrong}));
    }
    if (name != std::string_view("allOf")) ODMOE_RETURN_IF_ERROR(add(none));
  }
  if (const SchemaJson* unwanted = keyword(schema, "not")) ODMOE_RETURN_IF_ERROR(add({{.schema = unwanted}}));
  if (const SchemaJson* condition = keyword(schema, "if")) {
    for (const bool negated : {false, true}) {
      const SchemaJson* then = keyword(schema, negated ? "else" : "then");
      if (then == nullptr) continue;
      Goal goal;
      add_to(goal, {.schema = condition, .negated = negated});
      add_to(goal, {.schema = then, .negated = true});
      ODMOE_RETURN_IF_ERROR(add(goal));
    }
  }
  return {};
}

Result<Shapes> SchemaReader::negative(const SchemaJson& schema) {
  if (schema.is_boolean()) return schema.get<bool>() ? Shapes{} : Shapes{Shape{}};
  if (!schema.is_object()) return refuse(&schema, "a schema is an object, not {}", text_of(schema));
  if (!work_->spend(8 + schema.size())) {
    return refuse(&schema, "it is too large: it takes more than {} steps", kMaxCompileSteps);
  }
  Shapes shapes;
  ODMOE_RETURN_IF_ERROR(negate_scalars(schema, shapes));
  ODMOE_RETURN_IF_ERROR(negate_members(schema, shapes));
  ODMOE_RETURN_IF_ERROR(negate_combinations(schema, shapes));
  const SchemaJson* nullable = keyword(schema, "nullable");
  if (nullable != nullptr && nullable->is_boolean() && nullable->get<bool>()) {
    for (Shape& shape : shapes) shape.types &= ~kNullType;
    std::erase_if(shapes, [](const Shape& shape) { return shape.is_empty(); });
  }
  return shapes;
}

}  // namespace odmoe::grammar
