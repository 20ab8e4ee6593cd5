// const and enum: which of their values what stands beside them allows, and how those are written.
#include <algorithm>
#include <utility>

#include "grammar/schema_compiler.h"

namespace odmoe::grammar {
namespace {

using Expression = GrammarBuilder::Expression;

std::string dumped(const SchemaJson& value) {
  return value.dump(-1, ' ', false, SchemaJson::error_handler_t::replace);
}

// As it was given, and an integer without its point.
std::vector<std::string> spellings(const SchemaJson& value) {
  std::vector<std::string> all = {dumped(value)};
  if (value.is_number_float()) {
    const Decimal number = Decimal::of(value);
    if (number.is_integer() && number.whole.size() <= kMaxBoundDigits) all.push_back(number.text());
  }
  return all;
}

}  // namespace

// Of lists and objects with the white space that others have.
Expression SchemaCompiler::constant(const SchemaJson& value) {
  GrammarBuilder& b = *builder_;
  if (b.too_large()) return 0;
  if (!value.is_structured()) return b.one_of(spellings(value));
  if (value.empty()) return b.literal(value.is_array() ? "[]" : "{}");
  std::vector<Expression> children = {b.literal(value.is_array() ? "[" : "{"), values_.space()};
  bool first = true;
  for (const auto& [key, child] : value.items()) {
    if (!std::exchange(first, false)) children.push_back(values_.comma());
    if (value.is_object()) {
      children.push_back(b.literal(dumped(SchemaJson(key))));
      children.push_back(values_.colon());
    }
    children.push_back(constant(child));
  }
  children.push_back(values_.space());
  children.push_back(b.literal(value.is_array() ? "]" : "}"));
  return b.sequence(std::move(children));
}

Result<Expression> SchemaCompiler::constants(const Shape& shape) {
  std::vector<std::string> texts;
  std::vector<Expression> ways;
  for (const SchemaJson* value : *shape.values) {
    ODMOE_ASSIGN_OR_RETURN(const bool fits, satisfies(*value, shape));
    if (!builder_->work().spend()) return std::unexpected(builder_->excess());
    if (!fits) continue;
    if (value->is_structured()) {
      ways.push_back(constant(*value));
    } else {
      for (std::string& text : spellings(*value)) texts.push_back(std::move(text));
    }
  }
  if (!texts.empty()) ways.push_back(builder_->one_of(std::move(texts)));
  if (ways.empty()) reader_.note(at_, "no value of enum fits the keywords beside it");
  return builder_->choice(std::move(ways));
}

// The values apart that the shape names.
Result<bool> SchemaCompiler::satisfies(const SchemaJson& value, const Shape& shape) {
  const JsonType type = type_of(value);
  if ((shape.types & type) == 0) return false;
  if (std::ranges::any_of(shape.excluded, [&](const SchemaJson* one) { return equal_json(value, *one); })) {
    return false;
  }
  switch (type) {
    case kNumberType:
      return shape.number.takes(Decimal::of(value));
    case kStringType: {
      if (shape.text.is_free()) return true;
      const auto takes = texts_.takes(shape.text, value.get_ref<const std::string&>());
      if (!takes.has_value()) return refuse("pattern: {}", takes.error().message);
      return takes;
    }
    case kObjectType:
      return object_holds(value, shape);
    case kArrayType:
      return array_holds(value, shape);
    default:
      return true;
  }
}

Result<bool> SchemaCompiler::holds(const SchemaJson& value, const Goal& goal) {
  ODMOE_ASSIGN_OR_RETURN(const Shapes shapes, reader_.read(goal));
  for (const Shape& shape : shapes) {
    if (shape.values && !builder_->work().spend(shape.values->size())) {
      return std::unexpected(builder_->excess());
    }
    const bool named = !shape.values || std::ranges::any_of(*shape.values, [&](const SchemaJson* one) {
      return equal_json(value, *one);
    });
    if (!named) continue;
    ODMOE_ASSIGN_OR_RETURN(const bool fits, satisfies(value, shape));
    if (fits) return true;
  }
  return false;
}

Result<bool> SchemaCompiler::object_holds(const SchemaJson& value, const Shape& shape) {
  const auto size = static_cast<int64_t>(value.size());
  if (size < shape.min_members || (shape.max_members >= 0 && size > shape.max_members)) return false;
  for (const std::string& name : shape.required) {
    if (!value.contains(name)) return false;
  }
  for (const auto& [name, member] : value.items()) {
    if (!shape.names.empty()) {
      ODMOE_ASSIGN_OR_RETURN(const bool named, holds(SchemaJson(name), shape.names));
      if (!named) return false;
    }
    ODMOE_ASSIGN_OR_RETURN(const auto fitting, matches(shape, name));
    const auto goal = shape.member(&name, fitting);
    if (!goal) continue;
    ODMOE_ASSIGN_OR_RETURN(const bool fits, holds(member, *goal));
    if (!fits) return false;
  }
  return true;
}

Result<bool> SchemaCompiler::array_holds(const SchemaJson& value, const Shape& shape) {
  const auto size = static_cast<int64_t>(value.size());
  if (size < shape.min_items || (shape.max_items >= 0 && size > shape.max_items)) return false;
  for (size_t i = 0; i < value.size(); ++i) {
    ODMOE_ASSIGN_OR_RETURN(const bool fits, holds(value[i], item_goal(shape, i)));
    if (!fits) return false;
    for (size_t j = 0; j < i && shape.unique_items; ++j) {
      if (!builder_->work().spend()) return std::unexpected(builder_->excess());
      if (equal_json(value[i], value[j])) return false;
    }
  }
  for (const Contains& contains : shape.contains) {
    int64_t n = 0;
    for (const SchemaJson& item : value) {
      ODMOE_ASSIGN_OR_RETURN(const bool fits, holds(item, Goal{contains.goal}));
      n += fits ? 1 : 0;
    }
    if (n < contains.min || (contains.max >= 0 && n > contains.max)) return false;
  }
  return true;
}

}  // namespace odmoe::grammar
