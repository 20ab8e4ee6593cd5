#include "jinja/access.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "jinja/compare.h"
#include "jinja/methods.h"
#include "jinja/show.h"

namespace odmoe::jinja {
namespace {

bool changes_in_place(const Value& value, std::string_view name) {
  constexpr auto kOfLists = std::to_array<std::string_view>(
      {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"});
  constexpr auto kOfDicts =
      std::to_array<std::string_view>({"clear", "pop", "popitem", "setdefault", "update"});
  if (value.list() != nullptr && !value.list()->tuple) return std::ranges::contains(kOfLists, name);
  return value.dict() != nullptr && std::ranges::contains(kOfDicts, name);
}

std::string described(const Value& value) {
  if (value.is_none()) return "None";
  if (value.is_undefined()) return "Undefined";
  return std::string(type_name(value)) + " object";
}

// A method or member; nothing: there is none of this name.
std::optional<Value> find_member(Heap& heap, const Value& value, std::string_view name) {
  if (changes_in_place(value, name) && !(heap.wider() && has_changing_method(value, name))) {
    return heap.make<Undefined>(
        odmoe::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(value)),
        FailureKind::kSecurity);
  }
  if (Members* members = value.members()) return members->member(heap, name);
  if (Callable* callable = value.callable()) return callable->member(heap, name);
  if (const List* list = value.list(); list != nullptr && list->group) {
    if (name == "grouper") return list->items[0];
    if (name == "list") return list->items[1];
  }
  return find_method(heap, value, name);
}

// Every object of Python has some.
std::optional<Value> find_internal(Heap& heap, const Value& value, std::string_view name) {
  if (name.size() < 5 || !name.starts_with("__") || !name.ends_with("__")) return std::nullopt;
  return heap.make<Undefined>(
      odmoe::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(value)),
      FailureKind::kSecurity);
}

std::optional<Value> find_key(Heap& heap, const Value& value, const Value& key) {
  if (const Dict* dict = value.dict()) {
    if (key.list() != nullptr && !key.list()->tuple)
      return std::nullopt;  // Python's TypeError, which is caught
    if (key.dict() != nullptr) return std::nullopt;
    const Value* found = dict->find(key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (!key.is_integer() || key.is_big()) return std::nullopt;
  if (value.is_text()) {
    const Text& text = value.text();
    const auto index = item_index(key.integer(), text.n_chars());
    if (!index) return std::nullopt;
    heap.copy(text.is_ascii() ? 0 : text.size());
    const size_t place = text.place(*index);
    return part(heap, text, place, place + char_size(text.view(), place));
  }
  if (const List* list = value.list()) {
    const auto index = item_index(key.integer(), list->items.size());
    return index ? std::optional(list->items[*index]) : std::nullopt;
  }
  if (const Range* range = value.range()) {
    const auto index = item_index(key.integer(), range->size());
    return index ? std::optional<Value>(range->at(*index)) : std::nullopt;
  }
  return std::nullopt;
}

Value missing(Heap& heap, const Value& value, const Value& key) {
  const std::string what = described(value);
  if (key.is_text()) {
    return make_undefined(heap, odmoe::format("'{}' has no attribute '{}'", what, key.view()));
  }
  const Text shown = to_repr(heap, key);
  return make_undefined(heap, odmoe::format("{} has no element {}", what, shown.view()));
}

// slice.indices() of Python.
struct Slice {
  int64_t start, step;
  size_t n_items;
};

Slice resolve_slice(const Value& start, const Value& stop, const Value& step, size_t n) {
  const auto part = [](const Value& value) {
    if (value.undefined() != nullptr) value.undefined()->fail();
    if (!value.is_integer()) {
      raise(FailureKind::kType, "slice indices must be integers or None or have an __index__ method");
    }
    return value.is_big() ? std::numeric_limits<int64_t>::max() : value.integer();
  };
  const auto size = static_cast<int64_t>(n);
  int64_t by = step.is_none() ? 1 : part(step);
  if (by == 0) raise(FailureKind::kValue, "slice step cannot be zero");
  by = std::clamp(by, -size - 1, size + 1);  // no step reaches further
  const int64_t least = by < 0 ? -1 : 0, most = by < 0 ? size - 1 : size;
  const auto bounded = [&](const Value& value, int64_t fallback) {
    if (value.is_none()) return fallback;
    int64_t at = part(value);
    if (at < 0) at = at < -size ? -1 - size : at + size;
    return std::clamp(at, least, most);
  };
  const int64_t from = bounded(start, by < 0 ? most : least), to = bounded(stop, by < 0 ? least : most);
  size_t count = 0;
  if (by > 0 && from < to) count = static_cast<size_t>((to - from - 1) / by) + 1;
  if (by < 0 && to < from) count = static_cast<size_t>((from - to - 1) / -by) + 1;
  return {.start = from, .step = by, .n_items = count};
}

Text slice_text(Heap& heap, const Text& text, const Slice& slice) {
  if (slice.n_items == 0) return text.markup() ? TextBuilder(heap).take(true) : Text();
  heap.copy(text.is_ascii() ? 0 : text.size());
  if (slice.step == 1) {
    const auto begin = static_cast<size_t>(slice.start);
    const size_t from = text.place(begin);
    size_t to = from;
    if (text.is_ascii()) {
      to = from + slice.n_items;
    } else if (begin + slice.n_items == text.n_chars()) {
      to = text.size();
    } else {
      for (size_t i = 0; i < slice.n_items; ++i) to += char_size(text.view(), to);
    }
    return part(heap, text, from, to);
  }
  std::vector<size_t> places;
  if (!text.is_ascii()) {
    places.reserve(text.n_chars());
    for (size_t at = 0; at < text.size(); at += char_size(text.view(), at)) places.push_back(at);
  }
  TextBuilder out(heap);
  for (size_t i = 0; i < slice.n_items; ++i) {
    const auto index = static_cast<size_t>(slice.start + static_cast<int64_t>(i) * slice.step);
    const size_t place = text.is_ascii() ? index : places[index];
    out.add(text, place, place + char_size(text.view(), place));
  }
  return out.take(text.markup());
}

}  // namespace

Value get_attribute(Heap& heap, const Value& value, std::string_view name) {
  if (value.undefined() != nullptr) {
    // What Python finds on every object without asking this one.
    const bool found = name == "__class__" || name == "__init__" || name == "__doc__" || name == "__module__";
    if (!found) value.undefined()->fail();
    return *find_internal(heap, value, name);
  }
  if (auto member = find_member(heap, value, name)) return *std::move(member);
  if (auto hidden = find_internal(heap, value, name)) return *std::move(hidden);
  const Value key = make_text(name);
  if (auto item = find_key(heap, value, key)) return *std::move(item);
  return missing(heap, value, key);
}

Value get_item(Heap& heap, const Value& value, const Value& key) {
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (auto item = find_key(heap, value, key)) return *std::move(item);
  if (key.is_text()) {
    if (auto member = find_member(heap, value, key.view())) return *std::move(member);
    if (auto hidden = find_internal(heap, value, key.view())) return *std::move(hidden);
  }
  return missing(heap, value, key);
}

Value get_member(Heap& heap, const Value& value, std::string_view name) {
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (auto member = find_member(heap, value, name)) return *std::move(member);
  if (auto hidden = find_internal(heap, value, name)) return *std::move(hidden);
  return missing(heap, value, make_text(name));
}

Value get_slice(Heap& heap, const Value& value, const Value& start, const Value& stop, const Value& step) {
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (value.dict() != nullptr) raise(FailureKind::kType, "unhashable type: 'slice'");
  const bool has_slices = value.is_text() || value.list() != nullptr || value.range() != nullptr;
  if (!has_slices) raise(FailureKind::kType, "'{}' object is not subscriptable", type_name(value));
  const Slice slice = resolve_slice(start, stop, step, *length(value));
  if (value.is_text()) return slice_text(heap, value.text(), slice);
  if (const Range* range = value.range()) {
    const int64_t from = range->start + slice.start * range->step, by = range->step * slice.step;
    return heap.make<Range>(from, from + static_cast<int64_t>(slice.n_items) * by, by);
  }
  const List& list = *value.list();
  std::vector<Value> items;
  items.reserve(slice.n_items);
  for (size_t i = 0; i < slice.n_items; ++i) {
    items.push_back(list.items[static_cast<size_t>(slice.start + static_cast<int64_t>(i) * slice.step)]);
  }
  return list.tuple ? make_tuple(heap, std::move(items)) : make_list(heap, std::move(items));
}

Value get_path(Heap& heap, const Value& value, const Value& path, const Value& fallback) {
  if (path.is_none() || path.is_nothing()) return value;
  const auto step = [&](const Value& from, const Value& key) {
    Value found = get_item(heap, from, key);
    const bool use_fallback = !fallback.is_nothing() && !fallback.is_none() && found.is_undefined();
    return use_fallback ? fallback : found;
  };
  if (!path.is_text()) return step(value, path);
  Value at = value;
  std::string_view rest = path.view();
  while (true) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string_view name = rest.substr(0, dot);
    constexpr size_t kMostDigits = 18;
    const bool number = !name.empty() && name.size() <= kMostDigits &&
                        std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
    at = step(at, number ? Value(int64_t{std::stoll(std::string(name))}) : make_text(name));
    if (dot == rest.size()) return at;
    rest.remove_prefix(dot + 1);
  }
}

Value call_value(Heap& heap, const Value& function, Arguments& arguments) {
  if (function.undefined() != nullptr) function.undefined()->fail();
  heap.work(1);
  if (Callable* callable = function.callable()) return callable->call(heap, arguments);
  if (Members* members = function.members()) return members->call(heap, arguments);
  raise(FailureKind::kType, "'{}' object is not callable", type_name(function));
}

}  // namespace odmoe::jinja
