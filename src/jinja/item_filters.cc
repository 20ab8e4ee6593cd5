// Filters of what can be gone through.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/arithmetic.h"
#include "jinja/compare.h"
#include "jinja/filter_functions.h"
#include "jinja/show.h"
#include "jinja/text_search.h"

namespace odmoe::jinja {
namespace {

Value without_case(Heap& heap, const Value& value) {
  return value.is_text() ? Value(change_casing(heap, value.text(), Casing::kLower)) : value;
}

// What items are sorted and compared by.
class SortKey {
 public:
  SortKey(Heap& heap, bool case_sensitive, std::vector<Value> paths, Value fallback = {})
      : heap_(&heap),
        case_sensitive_(case_sensitive),
        paths_(std::move(paths)),
        fallback_(std::move(fallback)) {}

  // One path, absent: the item itself.
  Value of(const Value& item) const { return part(item, paths_[0]); }
  std::vector<Value> all_of(const Value& item) const {
    std::vector<Value> keys;
    keys.reserve(paths_.size());
    for (const Value& path : paths_) keys.push_back(part(item, path));
    return keys;
  }

 private:
  Value part(const Value& item, const Value& path) const {
    Value value = get_path(*heap_, item, path, fallback_);
    return case_sensitive_ ? value : without_case(*heap_, value);
  }

  Heap* heap_;
  bool case_sensitive_;
  std::vector<Value> paths_;
  Value fallback_;
};

bool less_keys(const std::vector<Value>& a, const std::vector<Value>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (!equals(a[i], b[i])) return less(a[i], b[i]);
  }
  return false;
}

std::vector<Value> sorted(Heap& heap, std::vector<Value> items, const SortKey& key, bool reverse) {
  std::vector<std::pair<std::vector<Value>, Value>> keyed;
  keyed.reserve(items.size());
  for (Value& item : items) {
    heap.work(16);
    std::vector<Value> keys = key.all_of(item);
    keyed.emplace_back(std::move(keys), std::move(item));
  }
  std::ranges::stable_sort(keyed, [&](const auto& a, const auto& b) {
    heap.work(1);
    return reverse ? less_keys(b.first, a.first) : less_keys(a.first, b.first);
  });
  for (size_t i = 0; i < items.size(); ++i) items[i] = std::move(keyed[i].second);
  return items;
}

// "a,b.c" as paths.
std::vector<Value> paths_of(Heap& heap, const Value& attribute) {
  if (!attribute.is_text()) return {attribute};
  return split_at(heap, attribute.text(), ",", -1);
}

Value extreme(Heap& heap, const Value& value, const Arguments& arguments, bool largest) {
  const Bound bound(largest ? "max" : "min", arguments, {"case_sensitive", "attribute"});
  const SortKey key(heap, bound.truth_or(0, false), {bound[1]});
  Items items(heap, value);
  auto best = items.next();
  if (!best) return make_undefined(heap, "No aggregated item, sequence was empty.");
  Value best_key = key.of(*best);
  while (auto item = items.next()) {
    Value its_key = key.of(*item);
    if (largest ? less(best_key, its_key, ">") : less(its_key, best_key)) {
      best = std::move(item);
      best_key = std::move(its_key);
    }
  }
  return *best;
}

// As Python calls what reversed() gives.
std::string_view reversed_type(const Value& value) {
  if (value.list() != nullptr) return value.list()->tuple ? "reversed" : "list_reverseiterator";
  if (value.dict() != nullptr) return "dict_reversekeyiterator";
  return value.range() != nullptr ? "range_iterator" : "reversed";
}

// -- Iterators

struct ItemPairs : Iterator {
  explicit ItemPairs(const Value& the_dict) : Iterator("generator", the_dict), dict(the_dict) {}
  std::optional<Value> next(Heap& heap) override {
    const Dict* held = dict.dict();
    if (dict.is_undefined()) return std::nullopt;
    if (held == nullptr) raise(FailureKind::kType, "Can only get item pairs from a mapping.");
    if (at == held->entries.size()) return std::nullopt;
    const auto& [key, value] = held->entries[at++];
    return make_tuple(heap, {key, value});
  }
  Value dict;
  size_t at = 0;
};

// From the last item to the first.
struct Reversed : Iterator {
  Reversed(std::string_view the_type, const Value& the_source, std::vector<Value> the_items)
      : Iterator(the_type, the_source), items(std::move(the_items)) {}
  std::optional<Value> next(Heap&) override {
    if (items.empty()) return std::nullopt;
    Value last = std::move(items.back());
    items.pop_back();
    return last;
  }
  std::vector<Value> items;
};

struct Batches : Iterator {
  Batches(const Value& the_source, int64_t the_size, Value the_fill)
      : Iterator("generator", the_source), source(the_source), size(the_size), fill(std::move(the_fill)) {}
  std::optional<Value> next(Heap& heap) override {
    if (!items) items.emplace(heap, source);
    std::vector<Value> batch;
    // Of a size of 0 or less there is one batch of all.
    do {
      auto item = items->next();
      if (!item) break;
      batch.push_back(*std::move(item));
    } while (std::cmp_not_equal(batch.size(), size));
    if (batch.empty()) return std::nullopt;
    if (!fill.is_none()) {
      while (std::cmp_less(batch.size(), size)) {
        heap.take(sizeof(Value));
        batch.push_back(fill);
      }
    }
    return make_list(heap, std::move(batch));
  }
  Value source;
  std::optional<Items> items;
  int64_t size;
  Value fill;
};

struct Slices : Iterator {
  Slices(const Value& the_source, int64_t the_count, Value the_fill)
      : Iterator("generator", the_source), source(the_source), count(the_count), fill(std::move(the_fill)) {}
  std::optional<Value> next(Heap& heap) override {
    if (at == 0) {
      items = all_items(heap, source);
      if (count == 0) raise(FailureKind::kValue, "integer division or modulo by zero");
    }
    if (at >= count) return std::nullopt;
    const auto size = static_cast<int64_t>(items.size());
    const int64_t each = size / count, with_extra = size % count;
    const int64_t begin = at * each + std::min(at, with_extra),
                  end = begin + each + (at < with_extra ? 1 : 0);
    std::vector<Value> slice(items.begin() + begin, items.begin() + end);
    if (!fill.is_none() && at >= with_extra) slice.push_back(fill);
    ++at;
    return make_list(heap, std::move(slice));
  }
  Value source;
  std::vector<Value> items;
  int64_t count, at = 0;
  Value fill;
};

struct Unique : Iterator {
  Unique(Heap& heap, const Value& the_source, SortKey the_key)
      : Iterator("generator", the_source),
        source(the_source),
        key(std::move(the_key)),
        seen(heap.make<Dict>()) {}
  std::optional<Value> next(Heap& heap) override {
    if (!items) items.emplace(heap, source);
    while (auto item = items->next()) {
      const Value its_key = key.of(*item);
      if (seen->find(its_key) != nullptr) continue;
      seen->set(heap, its_key, Value::none());
      return item;
    }
    return std::nullopt;
  }
  Value source;
  std::optional<Items> items;
  SortKey key;
  Dict* seen;
};

}  // namespace

Value filter_items(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("items", arguments, {});
  return heap.make<ItemPairs>(value);
}

Value filter_length(Heap&, const Value& value, const Arguments& arguments) {
  const Bound bound("length", arguments, {});
  const auto size = length(value);
  if (!size) raise(FailureKind::kType, "object of type '{}' has no len()", type_name(value));
  return Value::integer(*size);
}

Value filter_list(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("list", arguments, {});
  return make_list(heap, all_items(heap, value));
}

Value filter_first(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("first", arguments, {});
  auto first = Items(heap, value).next();
  return first ? *std::move(first) : make_undefined(heap, "No first item, sequence was empty.");
}

Value filter_last(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("last", arguments, {});
  if (value.iterator() != nullptr || !is_iterable(value)) {
    raise(FailureKind::kType, "'{}' object is not reversible", type_name(value));
  }
  if (*length(value) == 0) return make_undefined(heap, "No last item, sequence was empty.");
  if (value.dict() != nullptr || value.dict_view() != nullptr) return all_items(heap, value).back();
  return get_item(heap, value, Value(int64_t{-1}));
}

Value filter_reverse(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("reverse", arguments, {});
  if (value.is_text()) {
    return get_slice(heap, value, Value::none(), Value::none(), Value(int64_t{-1}));
  }
  if (!is_iterable(value)) raise(FailureKind::kType, "argument must be iterable");
  std::vector<Value> items = all_items(heap, value);
  if (value.iterator() == nullptr) return heap.make<Reversed>(reversed_type(value), value, std::move(items));
  std::ranges::reverse(items);
  return make_list(heap, std::move(items));
}

Value filter_join(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("join", arguments, {"d", "attribute"});
  const Text separator = bound.has(0) ? to_text(heap, bound[0]) : Text();
  TextBuilder out(heap);
  Items items(heap, value);
  for (bool first = true; const auto item = items.next(); first = false) {
    if (!first) out.add(separator);
    append_text(heap, get_path(heap, *item, bound[1]), out);
  }
  return out.take();
}

Value filter_min(Heap& heap, const Value& value, const Arguments& arguments) {
  return extreme(heap, value, arguments, /*largest=*/false);
}
Value filter_max(Heap& heap, const Value& value, const Arguments& arguments) {
  return extreme(heap, value, arguments, /*largest=*/true);
}

Value filter_sum(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("sum", arguments, {"attribute", "start"});
  Value sum = bound.value_or(1, int64_t{0});
  if (sum.is_text()) raise(FailureKind::kType, "sum() can't sum strings [use ''.join(seq) instead]");
  Items items(heap, value);
  while (const auto item = items.next()) {
    sum = compute(heap, Operator::kAdd, sum, get_path(heap, *item, bound[0]));
  }
  return sum;
}

Value filter_sort(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const SortKey key(heap, bound.truth_or(1, false), paths_of(heap, bound[2]));
  return make_list(heap, sorted(heap, all_items(heap, value), key, bound.truth_or(0, false)));
}

Value filter_dictsort(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (value.dict() == nullptr)
    raise(FailureKind::kType, "'{}' object has no attribute 'items'", type_name(value));
  const std::string_view by = bound.has(1) ? bound.text(1).view() : "key";
  if (by != "key" && by != "value") {
    raise(FailureKind::kValue, "You can only sort by either \"key\" or \"value\"");
  }
  const Value pairs = heap.make<View>(value.dict(), View::Part::kItems);
  const SortKey key(heap, bound.truth_or(0, false), {Value(int64_t{by == "key" ? 0 : 1})});
  return make_list(heap, sorted(heap, all_items(heap, pairs), key, bound.truth_or(2, false)));
}

Value filter_unique(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("unique", arguments, {"case_sensitive", "attribute"});
  return heap.make<Unique>(heap, value, SortKey(heap, bound.truth_or(0, false), {bound[1]}));
}

Value filter_groupby(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = bound.truth_or(2, false);
  const SortKey key(heap, case_sensitive, {bound[0]}, bound[1]), own_key(heap, true, {bound[0]}, bound[1]);
  const std::vector<Value> items = sorted(heap, all_items(heap, value), key, /*reverse=*/false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    const Value its_key = key.of(items[begin]);
    size_t end = begin + 1;
    while (end < items.size() && equals(key.of(items[end]), its_key)) ++end;
    const auto from = items.begin() + static_cast<ptrdiff_t>(begin),
               to = items.begin() + static_cast<ptrdiff_t>(end);
    const Value group =
        make_tuple(heap, {own_key.of(items[begin]), make_list(heap, std::vector<Value>(from, to))});
    group.list()->group = true;
    groups.push_back(group);
    begin = end;
  }
  return make_list(heap, std::move(groups));
}

Value filter_batch(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("batch", arguments, {"linecount", "fill_with"}, 1);
  return heap.make<Batches>(value, as_index(bound[0]), bound.value_or(1, Value::none()));
}

Value filter_slice(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("slice", arguments, {"slices", "fill_with"}, 1);
  return heap.make<Slices>(value, as_index(bound[0]), bound.value_or(1, Value::none()));
}

}  // namespace odmoe::jinja
