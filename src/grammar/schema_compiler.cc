#include "grammar/schema_compiler.h"

#include <algorithm>
#include <array>
#include <utility>

namespace odmoe::grammar {
namespace {

// Keywords that say which values are valid; all others describe.
constexpr auto kAssertions = std::to_array<const char*>({"type",
                                                         "enum",
                                                         "$ref",
                                                         "allOf",
                                                         "anyOf",
                                                         "oneOf",
                                                         "not",
                                                         "if",
                                                         "minimum",
                                                         "maximum",
                                                         "multipleOf",
                                                         "minLength",
                                                         "maxLength",
                                                         "pattern",
                                                         "format",
                                                         "items",
                                                         "prefixItems",
                                                         "minItems",
                                                         "maxItems",
                                                         "uniqueItems",
                                                         "contains",
                                                         "properties",
                                                         "required",
                                                         "propertyNames",
                                                         "patternProperties",
                                                         "minProperties",
                                                         "maxProperties",
                                                         "dependencies",
                                                         "nullable",
                                                         "additionalProperties",
                                                         "$dynamicRef",
                                                         "$recursiveRef",
                                                         "exclusiveMinimum",
                                                         "exclusiveMaximum",
                                                         "dependentRequired",
                                                         "dependentSchemas",
                                                         "unevaluatedProperties",
                                                         "unevaluatedItems"});

// Whether the schema says nothing but by this keyword.
bool says_only(const SchemaJson& schema, std::string_view wanted) {
  if (keyword(schema, wanted.data()) == nullptr || schema.contains("const")) return false;
  return std::ranges::all_of(
      kAssertions, [&](const char* name) { return name == wanted || keyword(schema, name) == nullptr; });
}

}  // namespace

SchemaCompiler::Expression SchemaCompiler::value(const Goal& goal) {
  if (goal.empty()) return values_.any();
  const auto known = rules_.find(goal);
  if (known != rules_.end()) return builder_->call(known->second);
  const GrammarBuilder::Rule rule = builder_->declare();
  rules_.emplace(goal, rule);
  pending_.emplace_back(goal, rule);
  return builder_->call(rule);
}

Result<SchemaCompiler::Expression> SchemaCompiler::compile() {
  const Expression root = value({{.schema = root_}});
  while (!pending_.empty()) {
    auto [goal, rule] = std::move(pending_.back());
    pending_.pop_back();
    at_ = goal.front().schema;
    if (rules_.size() > kMaxGoals) return refuse("it is too large: more than {} different values", kMaxGoals);
    ODMOE_ASSIGN_OR_RETURN(const Expression made, body(goal));
    builder_->define(rule, made);
    if (builder_->too_large()) {
      const Error excess = builder_->excess();
      return fail(excess.kind, "{}: {}", reader_.place(at_), excess.message);
    }
  }
  builder_->explain(reader_.reason().empty() ? "the schema: it refers to itself without an end"
                                             : reader_.reason());
  return root;
}

// A schema that is only another one, or a choice of others, has their rules.
Result<std::optional<SchemaCompiler::Expression>> SchemaCompiler::passed_on(const SchemaJson& schema) {
  for (const char* name : {"anyOf", "oneOf"}) {
    if (!says_only(schema, name)) continue;
    const SchemaJson& list = schema[name];
    if (!list.is_array() || list.empty()) return std::nullopt;
    if (name == std::string_view("oneOf")) {
      for (size_t i = 0; i < list.size(); ++i) {
        for (size_t j = 0; j < i; ++j) {
          ODMOE_ASSIGN_OR_RETURN(const bool apart, reader_.disjoint(list[i], list[j]));
          if (!apart) return std::nullopt;
        }
      }
    }
    std::vector<Expression> ways;
    for (const SchemaJson& one : list) ways.push_back(value({{.schema = &one}}));
    return builder_->choice(std::move(ways));
  }
  return std::nullopt;
}

Result<SchemaCompiler::Expression> SchemaCompiler::body(const Goal& goal) {
  if (goal.size() == 1 && !goal[0].negated) {
    ODMOE_ASSIGN_OR_RETURN(const auto other, passed_on(*goal[0].schema));
    if (other) return *other;
  }
  ODMOE_ASSIGN_OR_RETURN(const Shapes shapes, reader_.read(goal));
  if (shapes.empty()) reader_.note(at_, "it allows nothing");
  std::vector<Expression> ways;
  for (const Shape& shape : shapes) {
    ODMOE_ASSIGN_OR_RETURN(ways.emplace_back(), of_shape(shape));
  }
  return builder_->choice(std::move(ways));
}

Result<SchemaCompiler::Expression> SchemaCompiler::of_shape(const Shape& shape) {
  if (shape.is_free()) return values_.any();
  if (shape.values) return constants(shape);
  // Without a type, the ones that its keywords are about.
  const uint8_t types = shape.types == kAllTypes && shape.about != 0 ? shape.about : shape.types;
  std::vector<Expression> ways;
  for (const JsonType type : {kObjectType, kArrayType, kStringType, kNumberType, kBooleanType, kNullType}) {
    if ((types & type) == 0) continue;
    ODMOE_ASSIGN_OR_RETURN(ways.emplace_back(), of_type(type, shape));
  }
  return builder_->choice(std::move(ways));
}

Result<SchemaCompiler::Expression> SchemaCompiler::of_type(JsonType type, const Shape& shape) {
  switch (type) {
    case kNullType:
      return values_.null();
    case kBooleanType:
      return values_.boolean();
    case kNumberType: {
      const auto number = numbers_.number(shape.number);
      if (!number.has_value()) return refuse("{}", number.error().message);
      if (!*number) reader_.note(at_, "no number fits it");
      return *number ? **number : builder_->nothing();
    }
    case kStringType:
      return string(shape.text);
    default:
      break;
  }
  // Which object it is not would have to be told at every member: none is written.
  const bool excluded =
      std::ranges::any_of(shape.excluded, [&](const SchemaJson* value) { return type_of(*value) == type; });
  if (excluded) {
    reader_.note(at_, "\"not\" of an object or a list is not supported");
    return builder_->nothing();
  }
  return type == kObjectType ? object(shape) : array(shape);
}

Result<SchemaCompiler::Expression> SchemaCompiler::text(const TextRule& rule) {
  const auto inside = texts_.inside(rule);
  if (inside.has_value()) {
    if (!*inside) reader_.note(at_, "no string fits it");
    return *inside ? **inside : builder_->nothing();
  }
  const char* what =
      rule.conditions.size() > 1 ? "pattern, format and lengths together" : "pattern or format";
  return refuse("{}: {}", what, inside.error().message);
}

Result<SchemaCompiler::Expression> SchemaCompiler::string(const TextRule& rule) {
  std::string key = odmoe::format("{} {}", rule.min_length, rule.max_length);
  for (const TextRule::Condition& condition : rule.conditions) {
    key +=
        odmoe::format(" {}{}", condition.negated ? "!" : "", static_cast<const void*>(condition.regex.get()));
  }
  if (const auto known = known_texts_.find(key); known != known_texts_.end()) return known->second;
  ODMOE_ASSIGN_OR_RETURN(const Expression inside, text(rule));
  const Expression all =
      builder_->shared(builder_->sequence({builder_->literal("\""), inside, builder_->literal("\"")}));
  known_texts_.emplace(std::move(key), all);
  return all;
}

}  // namespace odmoe::grammar
