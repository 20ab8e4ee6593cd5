#include "jinja/methods.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "jinja/arguments.h"
#include "jinja/compare.h"

namespace odmoe::jinja {
namespace {

struct BoundMethod : Callable {
  BoundMethod(std::string_view the_name, Value the_self, MethodFunction the_function)
      : Callable("builtin_function_or_method", the_name), self(std::move(the_self)), function(the_function) {}
  Value call(Heap& heap, Arguments& arguments) override { return function(heap, self, arguments); }
  Value self;
  MethodFunction function;
};

Value dict_get(Heap&, const Value& self, const Arguments& arguments) {
  const Bound bound("get", arguments, {"", ""}, 1);
  const Value* found = self.dict()->find(bound[0]);
  return found != nullptr ? *found : bound.value_or(1, Value::none());
}

template <View::Part kPart>
Value dict_view(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("view", arguments, {});
  return heap.make<View>(self.dict(), kPart);
}

Value list_copy(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("copy", arguments, {});
  return make_list(heap, self.list()->items);
}

Value dict_copy(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("copy", arguments, {});
  Dict* copy = heap.make<Dict>();
  for (const auto& [key, value] : self.dict()->entries) copy->set(heap, key, value);
  return copy;
}

void check_not_held(bool held, const Value& self) {
  if (held) raise(FailureKind::kSecurity, "a {} that another value holds cannot be changed", type_name(self));
}

Value list_append(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("append", arguments, {""}, 1);
  check_not_held(self.list()->held || bound[0].list() == self.list(), self);
  append(heap, *self.list(), bound[0]);
  return Value::none();
}

Value list_extend(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("extend", arguments, {""}, 1);
  check_not_held(self.list()->held, self);
  for (Value& item : all_items(heap, bound[0])) append(heap, *self.list(), std::move(item));
  return Value::none();
}

Value list_insert(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("insert", arguments, {"", ""}, 2);
  check_not_held(self.list()->held || bound[1].list() == self.list(), self);
  std::vector<Value>& items = self.list()->items;
  const auto size = static_cast<int64_t>(items.size());
  const int64_t index = as_index(bound[0]);
  const int64_t at = std::clamp<int64_t>(index < 0 ? index + size : index, 0, size);
  heap.work(items.size());
  append(heap, *self.list(), bound[1]);
  std::ranges::rotate(items.begin() + at, items.end() - 1, items.end());
  return Value::none();
}

Value list_pop(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("pop", arguments, {""});
  check_not_held(self.list()->held, self);
  std::vector<Value>& items = self.list()->items;
  if (items.empty()) raise(FailureKind::kValue, "pop from empty list");
  const auto at = item_index(bound.integer_or(0, -1), items.size());
  if (!at) raise(FailureKind::kValue, "pop index out of range");
  heap.work(items.size());
  Value item = items[*at];
  items.erase(items.begin() + static_cast<std::ptrdiff_t>(*at));
  return item;
}

Value dict_update(Heap& heap, const Value& self, const Arguments& arguments) {
  check_not_held(self.dict()->held, self);
  if (arguments.positional.size() > 1) {
    raise(FailureKind::kType, "update expected at most 1 argument, got {}", arguments.positional.size());
  }
  for (const Value& other : arguments.positional) {
    if (other.dict() == nullptr) raise(FailureKind::kType, "'{}' object is not a mapping", type_name(other));
    if (other.dict() == self.dict()) continue;
    for (const auto& [key, value] : other.dict()->entries) self.dict()->set(heap, key, value);
  }
  for (const auto& [name, value] : arguments.named) self.dict()->set(heap, name, value);
  return Value::none();
}

Value sequence_count(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("count", arguments, {""}, 1);
  int64_t n = 0;
  Items items(heap, self);
  while (const auto item = items.next()) n += equals(*item, bound[0]) ? 1 : 0;
  return n;
}

Value sequence_index(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("index", arguments, {"", "", ""}, 1);
  const auto size = static_cast<int64_t>(*length(self));
  const auto place = [&](size_t argument, int64_t fallback) {
    const int64_t at = bound.integer_or(argument, fallback);
    return at < 0 ? std::max<int64_t>(at + size, 0) : at;
  };
  const int64_t begin = place(1, 0), end = place(2, size);
  Items items(heap, self);
  for (int64_t at = 0; const auto item = items.next(); ++at) {
    if (at >= begin && at < end && equals(*item, bound[0])) return at;
  }
  raise(FailureKind::kValue, "{}.index(x): x not in {}", type_name(self), type_name(self));
}

Value number_itself(Heap&, const Value& self, const Arguments& arguments) {
  const Bound bound("conjugate", arguments, {});
  return self;
}

Value integer_bit_length(Heap&, const Value& self, const Arguments& arguments) {
  const Bound bound("bit_length", arguments, {});
  const int64_t value = self.integer();
  const uint64_t size = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  return Value::integer(static_cast<size_t>(std::bit_width(size)));
}

Value number_is_integer(Heap&, const Value& self, const Arguments& arguments) {
  const Bound bound("is_integer", arguments, {});
  return !self.is_float() || (std::isfinite(self.real()) && std::floor(self.real()) == self.real());
}

template <size_t kSize>
MethodFunction find_in(const Method (&table)[kSize], std::string_view name) {
  const auto* found = std::ranges::find(table, name, &Method::name);
  return found == std::end(table) ? nullptr : found->function;
}

constexpr Method kDictMethods[] = {{"get", dict_get},
                                   {"items", dict_view<View::Part::kItems>},
                                   {"keys", dict_view<View::Part::kKeys>},
                                   {"values", dict_view<View::Part::kValues>},
                                   {"copy", dict_copy},
                                   {"update", dict_update}};
constexpr Method kListMethods[] = {
    {"count", sequence_count}, {"index", sequence_index}, {"copy", list_copy}, {"append", list_append},
    {"extend", list_extend},   {"insert", list_insert},   {"pop", list_pop}};
constexpr Method kTupleMethods[] = {{"count", sequence_count}, {"index", sequence_index}};
constexpr Method kIntegerMethods[] = {
    {"bit_length", integer_bit_length}, {"is_integer", number_is_integer}, {"conjugate", number_itself}};
constexpr Method kFloatMethods[] = {{"is_integer", number_is_integer}, {"conjugate", number_itself}};

std::optional<Value> range_member(const Range& range, std::string_view name) {
  if (name == "start") return range.start;
  if (name == "stop") return range.stop;
  if (name == "step") return range.step;
  return std::nullopt;
}

std::optional<Value> number_member(const Value& value, std::string_view name) {
  if (name == "real" || (name == "numerator" && value.is_integer())) {
    return value.is_bool() ? Value(value.integer(), value.number_said()) : value;
  }
  if (name == "imag") return value.is_float() ? Value(0.0) : Value(int64_t{0});
  if (name == "denominator" && value.is_integer()) return Value(int64_t{1});
  return std::nullopt;
}

MethodFunction find_function(const Value& value, std::string_view name) {
  if (value.is_text()) return find_text_method(name);
  if (value.dict() != nullptr) return find_in(kDictMethods, name);
  if (const List* list = value.list()) {
    return list->tuple ? find_in(kTupleMethods, name) : find_in(kListMethods, name);
  }
  if (value.range() != nullptr) return find_in(kTupleMethods, name);
  if (value.is_integer()) return find_in(kIntegerMethods, name);
  if (value.is_float()) return find_in(kFloatMethods, name);
  return nullptr;
}

}  // namespace

bool has_changing_method(const Value& value, std::string_view name) {
  return find_function(value, name) != nullptr;
}

std::optional<Value> find_method(Heap& heap, const Value& value, std::string_view name) {
  if (const Range* range = value.range()) {
    if (auto member = range_member(*range, name)) return member;
  }
  if (value.is_number()) {
    if (auto member = number_member(value, name)) return member;
  }
  const MethodFunction function = find_function(value, name);
  if (function == nullptr) return std::nullopt;
  return heap.make<BoundMethod>(name, value, function);
}

}  // namespace odmoe::jinja
