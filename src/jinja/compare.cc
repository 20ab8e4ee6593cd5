#include "jinja/compare.h"

#include <cmath>
#include <functional>
#include <string_view>
#include <utility>

namespace odmoe::jinja {
namespace {

// Numbers of all kinds, exactly: a double has fewer digits than an integer of 64 bits.
std::partial_ordering compare_integer(const Value& integer, double real) {
  if (std::isnan(real)) return std::partial_ordering::unordered;
  constexpr double kTwo63 = 9223372036854775808.0;
  if (integer.is_big()) {
    if (real < kTwo63) return std::partial_ordering::greater;
    if (real >= 2 * kTwo63) return std::partial_ordering::less;
    const auto whole = static_cast<uint64_t>(real);  // no fraction at this size
    return integer.big_integer() <=> whole;
  }
  if (real >= kTwo63) return std::partial_ordering::less;
  if (real < -kTwo63) return std::partial_ordering::greater;
  const double floor = std::floor(real);
  const auto whole = static_cast<int64_t>(floor);
  if (integer.integer() != whole) return integer.integer() <=> whole;
  return floor < real ? std::partial_ordering::less : std::partial_ordering::equivalent;
}

std::partial_ordering compare_numbers(const Value& left, const Value& right) {
  if (left.is_float() && right.is_float()) return left.real() <=> right.real();
  if (right.is_float()) return compare_integer(left, right.real());
  if (left.is_float()) return 0 <=> compare_integer(right, left.real());
  if (left.is_big() || right.is_big()) {
    const uint64_t l = left.is_big() ? left.big_integer() : 0, r = right.is_big() ? right.big_integer() : 0;
    return l <=> r;  // every other integer is below a big one
  }
  return left.integer() <=> right.integer();
}

bool equal_lists(const List& left, const List& right) {
  if (left.tuple != right.tuple || left.items.size() != right.items.size()) return false;
  for (size_t i = 0; i < left.items.size(); ++i) {
    if (!equals(left.items[i], right.items[i])) return false;
  }
  return true;
}

bool equal_dicts(const Dict& left, const Dict& right) {
  if (left.entries.size() != right.entries.size()) return false;
  for (const auto& [key, value] : left.entries) {
    const Value* other = right.find(key);
    if (other == nullptr || !equals(value, *other)) return false;
  }
  return true;
}

bool equal_ranges(const Range& left, const Range& right) {
  if (left.size() != right.size()) return false;
  if (left.size() == 0) return true;
  return left.start == right.start && (left.size() == 1 || left.step == right.step);
}

// Lists hold no more than kMaxValueDepth of each other, which bounds the recursion.
bool compare(const Value& left, const Value& right, bool or_equal, std::string_view sign) {
  if (left.undefined() != nullptr) left.undefined()->fail();
  if (right.undefined() != nullptr) right.undefined()->fail();
  if (left.is_number() && right.is_number()) {
    const auto order = compare_numbers(left, right);
    return order < 0 || (or_equal && order == 0);
  }
  if (left.is_text() && right.is_text()) {  // the order of UTF-8 is that of code points
    return or_equal ? left.view() <= right.view() : left.view() < right.view();
  }
  const List *a = left.list(), *b = right.list();
  if (a != nullptr && b != nullptr && a->tuple == b->tuple) {
    for (size_t i = 0; i < a->items.size() && i < b->items.size(); ++i) {
      if (!equals(a->items[i], b->items[i])) return compare(a->items[i], b->items[i], or_equal, sign);
    }
    return or_equal ? a->items.size() <= b->items.size() : a->items.size() < b->items.size();
  }
  raise(FailureKind::kType, "'{}' not supported between instances of '{}' and '{}'", sign, type_name(left),
        type_name(right));
}

}  // namespace

bool equals(const Value& left, const Value& right) {
  if (left.is_number() && right.is_number()) return compare_numbers(left, right) == 0;
  if (left.is_text() && right.is_text()) return left.view() == right.view();
  if (left.is_none() || right.is_none()) return left.is_none() && right.is_none();
  if (left.is_undefined() || right.is_undefined()) return left.is_undefined() && right.is_undefined();
  if (left.data().index() != right.data().index()) return false;
  if (left.list() != nullptr) return left.list() == right.list() || equal_lists(*left.list(), *right.list());
  if (left.dict() != nullptr) return left.dict() == right.dict() || equal_dicts(*left.dict(), *right.dict());
  if (left.range() != nullptr) return equal_ranges(*left.range(), *right.range());
  // All others are equal to themselves alone.
  return left.dict_view() == right.dict_view() && left.iterator() == right.iterator() &&
         left.members() == right.members() && left.callable() == right.callable();
}

bool less(const Value& left, const Value& right, std::string_view sign) {
  return compare(left, right, /*or_equal=*/false, sign);
}

bool less_or_equal(const Value& left, const Value& right, std::string_view sign) {
  return compare(left, right, /*or_equal=*/true, sign);
}

bool contains(Heap& heap, const Value& container, const Value& item) {
  if (container.is_text()) {
    if (item.undefined() != nullptr || !item.is_text()) {
      raise(FailureKind::kType, "'in <string>' requires string as left operand, not {}", type_name(item));
    }
    heap.copy(container.text().size());
    return container.view().contains(item.view());
  }
  if (const Dict* dict = container.dict()) return dict->find(item) != nullptr;
  if (const View* view = container.dict_view(); view != nullptr && view->part == View::Part::kKeys) {
    return view->dict->find(item) != nullptr;
  }
  if (!is_iterable(container)) {
    raise(FailureKind::kType, "argument of type '{}' is not iterable", type_name(container));
  }
  Items items(heap, container);
  while (const auto one = items.next()) {
    if (equals(*one, item)) return true;
  }
  return false;
}

size_t hash_of(const Value& value) {
  if (value.is_text()) return std::hash<std::string_view>()(value.view());
  if (value.is_float()) {
    // A float that is an integer is the same key.
    const double real = value.real();
    constexpr double kTwo63 = 9223372036854775808.0;
    if (std::floor(real) != real || real >= kTwo63 || real < -kTwo63) return std::hash<double>()(real);
    return std::hash<int64_t>()(static_cast<int64_t>(real));
  }
  if (value.is_big()) return std::hash<double>()(value.as_double());
  if (value.is_integer()) return std::hash<int64_t>()(value.integer());
  if (value.is_none() || value.is_undefined()) return value.data().index();
  if (const List* list = value.list(); list != nullptr && list->tuple) {
    size_t hash = list->items.size();
    for (const Value& item : list->items) hash = hash * 1000003 + hash_of(item);
    return hash;
  }
  if (value.list() != nullptr || value.dict() != nullptr || value.dict_view() != nullptr) {
    raise(FailureKind::kType, "unhashable type: '{}'", type_name(value));
  }
  if (value.range() != nullptr) return value.range()->size();
  return value.data().index();  // by identity, which equals() sees to
}

}  // namespace odmoe::jinja
