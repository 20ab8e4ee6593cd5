#include "jinja/value.h"

#include <algorithm>

#include "jinja/compare.h"

namespace odmoe::jinja {

int64_t Value::integer() const {
  if (is_bool()) return boolean() ? 1 : 0;
  if (is_big()) raise(FailureKind::kLimit, "cannot compute with integers of more than 64 bits");
  return std::get<int64_t>(data_);
}

double Value::as_double() const {
  if (is_float()) return real();
  if (is_big()) return static_cast<double>(big_integer());
  return static_cast<double>(integer());
}

namespace {

// Of what holds `value`, which has been at `depth` so far.
int depth_around(const Value& value, int depth) {
  depth = std::max(depth, depth_of(value) + 1);
  if (depth > kMaxValueDepth) raise(FailureKind::kLimit, "values hold each other too deeply");
  return depth;
}

}  // namespace

Iterator::Iterator(std::string_view the_type, const Value& source)
    : type(the_type), depth(depth_around(source, 1)) {}

std::optional<size_t> Dict::position(size_t hash, const std::function<bool(const Value&)>& equal) const {
  if (entries.size() <= kFewEntries) {
    const auto found = std::ranges::find_if(entries, [&](const auto& entry) { return equal(entry.first); });
    if (found == entries.end()) return std::nullopt;
    return static_cast<size_t>(found - entries.begin());
  }
  for (auto [at, end] = index_.equal_range(hash); at != end; ++at) {
    if (equal(entries[at->second].first)) return at->second;
  }
  return std::nullopt;
}

const Value* Dict::find(const Value& key) const {
  const auto found = position(hash_of(key), [&](const Value& other) { return equals(key, other); });
  return found ? &entries[*found].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  const auto found = position(std::hash<std::string_view>()(key),
                              [&](const Value& other) { return other.is_text() && other.view() == key; });
  return found ? &entries[*found].second : nullptr;
}

void hold(const Value& value) {
  if (List* list = value.list()) list->held = true;
  if (Dict* dict = value.dict()) dict->held = true;
}

void append(Heap& heap, List& list, Value item) {
  heap.take(sizeof(Value));
  list.depth = depth_around(item, list.depth);
  hold(item);
  list.items.push_back(std::move(item));
}

void Dict::set(Heap& heap, Value key, Value value) {
  hold(value);
  depth = depth_around(key, depth_around(value, depth));
  const size_t hash = hash_of(key);
  const auto found = position(hash, [&](const Value& other) { return equals(key, other); });
  if (found) {
    entries[*found].second = std::move(value);
    return;
  }
  constexpr size_t kIndexBytes = 64;
  heap.take(sizeof(entries[0]) * 2 + kIndexBytes);
  entries.emplace_back(std::move(key), std::move(value));
  if (entries.size() == kFewEntries + 1) {
    for (size_t i = 0; i < kFewEntries; ++i) index_.emplace(hash_of(entries[i].first), i);
  }
  if (entries.size() > kFewEntries) index_.emplace(hash, entries.size() - 1);
}

Value View::at(Heap& heap, size_t index) const {
  const auto& [key, value] = dict->entries[index];
  switch (part) {
    case Part::kKeys:
      return key;
    case Part::kValues:
      return value;
    case Part::kItems:
      break;
  }
  return make_tuple(heap, {key, value});
}

size_t Range::size() const {
  if (step > 0 && start < stop) return (static_cast<uint64_t>(stop) - start - 1) / step + 1;
  // The other way, without overflow at either end.
  if (step < 0 && start > stop)
    return (static_cast<uint64_t>(start) - stop - 1) / (0 - static_cast<uint64_t>(step)) + 1;
  return 0;
}

Value Members::call(Heap&, Arguments&) { raise(FailureKind::kType, "'{}' object is not callable", type); }

std::optional<Value> Namespace::member(Heap&, std::string_view name) {
  for (const auto& [key, value] : values) {
    if (key.view() == name) return value;
  }
  return std::nullopt;
}

void Namespace::set(Heap& heap, std::string_view name, Value value) {
  for (auto& [key, held] : values) {
    if (key.view() != name) continue;
    held = std::move(value);
    return;
  }
  heap.take(sizeof(values[0]) * 2 + name.size());
  values.emplace_back(Text::own(name), std::move(value));
}

std::string_view type_name(const Value& value) {
  struct Name {
    std::string_view operator()(Value::Nothing) const { return "Undefined"; }
    std::string_view operator()(Value::None) const { return "NoneType"; }
    std::string_view operator()(bool) const { return "bool"; }
    std::string_view operator()(int64_t) const { return "int"; }
    std::string_view operator()(uint64_t) const { return "int"; }
    std::string_view operator()(double) const { return "float"; }
    std::string_view operator()(const Text& text) const { return text.markup() ? "Markup" : "str"; }
    std::string_view operator()(const Undefined*) const { return "Undefined"; }
    std::string_view operator()(const List* list) const { return list->tuple ? "tuple" : "list"; }
    std::string_view operator()(const Dict*) const { return "dict"; }
    std::string_view operator()(const View* view) const {
      if (view->part == View::Part::kItems) return "dict_items";
      return view->part == View::Part::kKeys ? "dict_keys" : "dict_values";
    }
    std::string_view operator()(const Range*) const { return "range"; }
    std::string_view operator()(const Iterator* iterator) const { return iterator->type; }
    std::string_view operator()(const Members* members) const { return members->type; }
    std::string_view operator()(const Callable* callable) const { return callable->type; }
  };
  return std::visit(Name(), value.data());
}

std::optional<size_t> length(const Value& value) {
  if (value.is_text()) return value.text().n_chars();
  if (value.is_undefined()) return 0;
  if (const List* list = value.list()) return list->items.size();
  if (const Dict* dict = value.dict()) return dict->entries.size();
  if (const View* view = value.dict_view()) return view->dict->entries.size();
  if (const Range* range = value.range()) return range->size();
  return std::nullopt;
}

int depth_of(const Value& value) {
  if (const List* list = value.list()) return list->depth;
  if (const Dict* dict = value.dict()) return dict->depth;
  if (const View* view = value.dict_view()) return view->dict->depth;
  if (const Iterator* iterator = value.iterator()) return iterator->depth;
  return 0;
}

bool truth(const Value& value) {
  if (value.is_nothing() || value.is_none()) return false;
  if (value.is_bool()) return value.boolean();
  if (value.is_big()) return true;
  if (value.is_float()) return value.real() != 0;
  if (value.is_integer()) return value.integer() != 0;
  if (value.is_text()) return !value.text().empty();
  const auto size = length(value);
  return !size || *size > 0;
}

Value make_undefined(Heap& heap, std::string message) {
  heap.take(message.size());
  return heap.make<Undefined>(std::move(message));
}

namespace {

List* make_items(Heap& heap, std::vector<Value> items, bool tuple) {
  heap.take(items.size() * sizeof(Value));
  heap.work(items.size());
  List* list = heap.make<List>();
  for (const Value& item : items) {
    list->depth = depth_around(item, list->depth);
    hold(item);
  }
  list->items = std::move(items);
  list->tuple = tuple;
  return list;
}

}  // namespace

Value make_list(Heap& heap, std::vector<Value> items) { return make_items(heap, std::move(items), false); }
Value make_tuple(Heap& heap, std::vector<Value> items) { return make_items(heap, std::move(items), true); }

bool is_iterable(const Value& value) {
  return value.is_text() || value.is_undefined() || value.list() != nullptr || value.dict() != nullptr ||
         value.dict_view() != nullptr || value.range() != nullptr || value.iterator() != nullptr;
}

Items::Items(Heap& heap, const Value& value) : heap_(&heap), value_(value) {
  if (!is_iterable(value)) raise(FailureKind::kType, "'{}' object is not iterable", type_name(value));
}

std::optional<Value> Items::next() {
  heap_->work(1);
  if (Iterator* iterator = value_.iterator()) return iterator->next(*heap_);
  if (value_.is_text()) {
    const Text& text = value_.text();
    if (at_ == text.size()) return std::nullopt;
    const size_t begin = at_;
    at_ += char_size(text.view(), at_);
    return TextBuilder(*heap_).add(text, begin, at_).take();  // not safe HTML, as Python has it
  }
  if (at_ >= *length(value_)) return std::nullopt;
  const size_t index = at_++;
  if (const List* list = value_.list()) return list->items[index];
  if (const Dict* dict = value_.dict()) return dict->entries[index].first;
  if (const View* view = value_.dict_view()) return view->at(*heap_, index);
  return Value(value_.range()->at(index));
}

std::optional<size_t> Items::left() const {
  if (value_.iterator() != nullptr) return std::nullopt;
  if (value_.is_text()) return value_.text().n_chars() - value_.text().index(at_);
  return std::max(*length(value_), at_) - at_;
}

std::vector<Value> all_items(Heap& heap, const Value& value) {
  if (const List* list = value.list()) {
    heap.work(list->items.size() / 8);
    return list->items;
  }
  std::vector<Value> items;
  Items source(heap, value);
  while (auto item = source.next()) {
    heap.take(sizeof(Value));  // a list that has no end is stopped while it grows
    items.push_back(*std::move(item));
  }
  heap.give_back(items.size() * sizeof(Value));
  return items;
}

std::optional<size_t> item_index(int64_t index, size_t size) {
  if (index < 0) index += static_cast<int64_t>(size);
  if (index < 0 || std::cmp_greater_equal(index, size)) return std::nullopt;
  return static_cast<size_t>(index);
}

}  // namespace odmoe::jinja
