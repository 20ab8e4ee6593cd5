#include "grammar/schema_shape.h"

#include <algorithm>
#include <unordered_set>

namespace odmoe::grammar {

void add_to(Goal& goal, const GoalItem& item) {
  const auto at = std::ranges::lower_bound(goal, item);
  if (at == goal.end() || *at != item) goal.insert(at, item);
}

bool allows_nothing(const Goal& goal) {
  return std::ranges::any_of(goal, [](const GoalItem& item) {
    return item.schema->is_boolean() && item.schema->get<bool>() == item.negated;
  });
}

JsonType type_of(const SchemaJson& value) {
  if (value.is_null()) return kNullType;
  if (value.is_boolean()) return kBooleanType;
  if (value.is_number()) return kNumberType;
  if (value.is_string()) return kStringType;
  return value.is_object() ? kObjectType : kArrayType;
}

bool equal_json(const SchemaJson& a, const SchemaJson& b) {
  if (type_of(a) != type_of(b)) return false;
  if (a.is_number()) return Decimal::of(a) == Decimal::of(b);
  if (!a.is_structured()) return a == b;
  if (a.size() != b.size()) return false;
  if (a.is_array()) return std::ranges::equal(a, b, equal_json);
  return std::ranges::all_of(a.items(), [&](const auto& member) {
    const auto other = b.find(member.key());
    return other != b.end() && equal_json(member.value(), *other);
  });
}

void ObjectLayer::add(std::string name, const GoalItem& goal) {
  if (index.try_emplace(name, named.size()).second) named.emplace_back(std::move(name), goal);
}

void Shape::require(const std::string& name) {
  if (!std::ranges::contains(required, name)) required.push_back(name);
}

namespace {

int64_t least(int64_t a, int64_t b) { return a < 0 ? b : b < 0 ? a : std::min(a, b); }

template <typename T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

void Shape::meet(const Shape& other) {
  types &= other.types;
  about |= other.about;
  if (values && other.values) {
    std::erase_if(*values, [&](const SchemaJson* value) {
      return std::ranges::none_of(*other.values,
                                  [&](const SchemaJson* one) { return equal_json(*value, *one); });
    });
  } else if (other.values) {
    values = other.values;
  }
  append(excluded, other.excluded);
  number.meet(other.number);
  text.meet(other.text);
  for (const auto& layer : other.arrays) {
    if (!std::ranges::contains(arrays, layer)) arrays.push_back(layer);
  }
  append(contains, other.contains);
  min_items = std::max(min_items, other.min_items);
  max_items = least(max_items, other.max_items);
  unique_items = unique_items || other.unique_items;
  for (const auto& layer : other.objects) {
    if (!std::ranges::contains(objects, layer)) objects.push_back(layer);
  }
  if (required.empty()) {
    required = other.required;
  } else if (!other.required.empty()) {
    std::unordered_set<std::string> known(required.begin(), required.end());
    for (const std::string& name : other.required) {
      if (known.insert(name).second) required.push_back(name);
    }
  }
  for (const GoalItem& item : other.names) add_to(names, item);
  min_members = std::max(min_members, other.min_members);
  max_members = least(max_members, other.max_members);

  if (number.is_empty()) types &= ~kNumberType;
  if (text.max_length >= 0 && text.max_length < text.min_length) types &= ~kStringType;
  if (max_items >= 0 && max_items < min_items) types &= ~kArrayType;
  if (max_members >= 0 &&
      max_members < std::max<int64_t>(min_members, static_cast<int64_t>(required.size()))) {
    types &= ~kObjectType;
  }
  if (!values) return;
  std::erase_if(*values, [&](const SchemaJson* value) {
    if ((types & type_of(*value)) == 0) return true;
    return std::ranges::any_of(excluded, [&](const SchemaJson* one) { return equal_json(*value, *one); });
  });
}

bool Shape::is_free() const {
  return types == kAllTypes && about == 0 && !values && excluded.empty() && number.is_free() &&
         text.is_free();
}

bool Shape::is_empty() const { return types == 0 || (values && values->empty()); }

std::optional<Goal> Shape::member(const std::string* name,
                                  const std::vector<std::vector<bool>>& matches) const {
  Goal goal;
  bool spoken_of = false;
  for (size_t i = 0; i < objects.size(); ++i) {
    const ObjectLayer& layer = *objects[i];
    bool known = false;
    const auto at = name == nullptr ? layer.index.end() : layer.index.find(*name);
    if (at != layer.index.end()) {
      add_to(goal, layer.named[at->second].second);
      known = true;
    }
    for (size_t k = 0; k < layer.patterns.size(); ++k) {
      if (!matches[i][k]) continue;
      add_to(goal, layer.patterns[k].goal);
      known = true;
    }
    if (!known && layer.others) add_to(goal, *layer.others);
    spoken_of = spoken_of || known || layer.others;
  }
  if (!spoken_of) return std::nullopt;
  return goal;
}

}  // namespace odmoe::grammar
