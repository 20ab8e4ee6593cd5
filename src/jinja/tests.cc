#include "jinja/tests.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "jinja/arguments.h"
#include "jinja/arithmetic.h"
#include "jinja/compare.h"
#include "jinja/filters.h"
#include "jinja/show.h"
#include "jinja/unicode.h"

namespace odmoe::jinja {
namespace {

void take_none(const Arguments& arguments) { const Bound bound("test", arguments, {}); }

bool remainder_is(Heap& heap, const Value& value, const Value& divisor, int64_t rest) {
  return equals(compute(heap, Operator::kRemainder, value, divisor), Value(rest));
}

bool test_odd(Heap& heap, const Value& value, const Arguments& arguments) {
  take_none(arguments);
  return remainder_is(heap, value, Value(int64_t{2}), 1);
}
bool test_even(Heap& heap, const Value& value, const Arguments& arguments) {
  take_none(arguments);
  return remainder_is(heap, value, Value(int64_t{2}), 0);
}
bool test_divisibleby(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("divisibleby", arguments, {"num"}, 1);
  return remainder_is(heap, value, bound[0], 0);
}

// Of the value alone.
template <bool (*kAsk)(const Value&)>
bool ask(Heap&, const Value& value, const Arguments& arguments) {
  take_none(arguments);
  return kAsk(value);
}
bool is_defined(const Value& value) { return !value.is_undefined(); }
bool is_undefined(const Value& value) { return value.is_undefined(); }
bool is_none(const Value& value) { return value.is_none(); }
bool is_boolean(const Value& value) { return value.is_bool(); }
bool is_true(const Value& value) { return value.is_bool() && value.boolean(); }
bool is_false(const Value& value) { return value.is_bool() && !value.boolean(); }
bool is_integer(const Value& value) { return value.is_integer() && !value.is_bool(); }
bool is_float(const Value& value) { return value.is_float(); }
bool is_number(const Value& value) { return value.is_number(); }
bool is_string(const Value& value) { return value.is_text(); }
bool is_mapping(const Value& value) { return value.dict() != nullptr; }
bool is_sequence_value(const Value& value) { return length(value) && value.dict_view() == nullptr; }
bool is_escaped(const Value& value) { return value.is_text() && value.text().markup(); }
bool is_filter_name(const Value& value) { return value.is_text() && find_filter(value.view()) != nullptr; }
bool is_test_name(const Value& value) { return value.is_text() && find_test(value.view()) != nullptr; }
bool is_callable(const Value& value) {
  return value.callable() != nullptr || value.is_undefined() ||
         (value.members() != nullptr && value.members()->type == "LoopContext");
}

template <Property kWanted, Property kOther>
bool test_case(Heap& heap, const Value& value, const Arguments& arguments) {
  take_none(arguments);
  return is_text_in_case(to_text(heap, value).view(), kWanted, kOther);
}

// The same object.  Equal numbers and texts count as the same: whether Python keeps one object for them is a
// matter of how it compiles.
bool test_sameas(Heap&, const Value& value, const Arguments& arguments) {
  const Bound bound("sameas", arguments, {"other"}, 1);
  const Value& other = bound[0];
  if (value.data().index() != other.data().index()) return false;
  if (value.list() != nullptr) return value.list() == other.list();
  if (value.dict() != nullptr) return value.dict() == other.dict();
  if (value.is_undefined()) return value.undefined() == other.undefined();
  return equals(value, other);
}

bool test_in(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("in", arguments, {"seq"}, 1);
  return contains(heap, bound[0], value);
}

template <bool (*kCompare)(const Value&, const Value&)>
bool test_relation(Heap&, const Value& value, const Arguments& arguments) {
  const Bound bound("comparison", arguments, {""}, 1);
  return kCompare(value, bound[0]);
}
bool not_equal(const Value& left, const Value& right) { return !equals(left, right); }
bool less_than(const Value& left, const Value& right) { return less(left, right); }
bool at_most(const Value& left, const Value& right) { return less_or_equal(left, right); }
bool greater_than(const Value& left, const Value& right) { return less(right, left, ">"); }
bool at_least(const Value& left, const Value& right) { return less_or_equal(right, left, ">="); }

constexpr std::pair<std::string_view, TestFunction> kTests[] = {
    {"!=", test_relation<not_equal>},
    {"<", test_relation<less_than>},
    {"<=", test_relation<at_most>},
    {"==", test_relation<equals>},
    {">", test_relation<greater_than>},
    {">=", test_relation<at_least>},
    {"boolean", ask<is_boolean>},
    {"callable", ask<is_callable>},
    {"defined", ask<is_defined>},
    {"divisibleby", test_divisibleby},
    {"eq", test_relation<equals>},
    {"equalto", test_relation<equals>},
    {"escaped", ask<is_escaped>},
    {"even", test_even},
    {"false", ask<is_false>},
    {"filter", ask<is_filter_name>},
    {"float", ask<is_float>},
    {"ge", test_relation<at_least>},
    {"greaterthan", test_relation<greater_than>},
    {"gt", test_relation<greater_than>},
    {"in", test_in},
    {"integer", ask<is_integer>},
    {"iterable", ask<is_iterable>},
    {"le", test_relation<at_most>},
    {"lessthan", test_relation<less_than>},
    {"lower", test_case<kLower, kUpper>},
    {"lt", test_relation<less_than>},
    {"mapping", ask<is_mapping>},
    {"ne", test_relation<not_equal>},
    {"none", ask<is_none>},
    {"number", ask<is_number>},
    {"odd", test_odd},
    {"sameas", test_sameas},
    {"sequence", ask<is_sequence_value>},
    {"string", ask<is_string>},
    {"test", ask<is_test_name>},
    {"true", ask<is_true>},
    {"undefined", ask<is_undefined>},
    {"upper", test_case<kUpper, kLower>},
};

}  // namespace

TestFunction find_test(std::string_view name) {
  const auto* found = std::ranges::find(kTests, name, &std::pair<std::string_view, TestFunction>::first);
  return found == std::end(kTests) ? nullptr : found->second;
}

}  // namespace odmoe::jinja
