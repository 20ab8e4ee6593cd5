// What a JSON schema asks for, taken apart: alternatives, in each of which everything must hold.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "grammar/json_numbers.h"
#include "grammar/text_grammar.h"

namespace odmoe::grammar {

using SchemaJson = nlohmann::ordered_json;

// A schema that a value must be valid under, or must not.
struct GoalItem {
  const SchemaJson* schema = nullptr;
  bool negated = false;
  auto operator<=>(const GoalItem&) const = default;
};
// All of them; sorted, each once.  None: any value.
using Goal = std::vector<GoalItem>;
void add_to(Goal& goal, const GoalItem& item);
// Whether it has a schema that no value is valid under as it is written: false, or not true.
bool allows_nothing(const Goal& goal);

enum JsonType : uint8_t {
  kNullType = 1,
  kBooleanType = 2,
  kNumberType = 4,
  kStringType = 8,
  kObjectType = 16,
  kArrayType = 32,
  kAllTypes = 63
};
JsonType type_of(const SchemaJson& value);
// As JSON Schema compares: 1 is 1.0, members have no order.
bool equal_json(const SchemaJson& a, const SchemaJson& b);

// properties, patternProperties and additionalProperties of one schema.
struct ObjectLayer {
  struct Pattern {
    std::shared_ptr<const Regex> regex;
    GoalItem goal;
  };
  std::vector<std::pair<std::string, GoalItem>> named;  // in the schema's order
  std::unordered_map<std::string, size_t> index;        // of named
  std::vector<Pattern> patterns;
  std::optional<GoalItem> others;  // of names that are neither

  void add(std::string name, const GoalItem& goal);
};

// prefixItems and items of one schema.
struct ArrayLayer {
  std::vector<GoalItem> prefix;
  std::optional<GoalItem> rest;
};

struct Contains {
  GoalItem goal;
  int64_t min = 1, max = -1;
};

// What a keyword says of one type holds only for values of that type.
struct Shape {
  uint8_t types = kAllTypes;
  uint8_t about = 0;                                     // types that keywords speak of
  std::optional<std::vector<const SchemaJson*>> values;  // one of these
  std::vector<const SchemaJson*> excluded;  // none of these; strings and numbers are in their rules too
  NumberRule number;
  TextRule text;
  std::vector<std::shared_ptr<const ArrayLayer>> arrays;
  std::vector<Contains> contains;
  int64_t min_items = 0, max_items = -1;
  bool unique_items = false;
  std::vector<std::shared_ptr<const ObjectLayer>> objects;
  std::vector<std::string> required;  // each once
  Goal names;                         // of members
  int64_t min_members = 0, max_members = -1;

  void require(const std::string& name);
  // Both at once.  Types and values that cannot be any more are left out.
  void meet(const Shape& other);
  bool is_free() const;   // anything
  bool is_empty() const;  // by what is seen at once
  // All that a member must be whose name fits these patterns of the layers; null: one that none names.
  // Nothing where no layer speaks of it.
  std::optional<Goal> member(const std::string* name, const std::vector<std::vector<bool>>& matches) const;
};
using Shapes = std::vector<Shape>;

}  // namespace odmoe::grammar
