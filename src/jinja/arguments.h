// The arguments of a call, by the names of the function's parameters.
#pragma once

#include <initializer_list>
#include <optional>
#include <string_view>
#include <vector>

#include "jinja/value.h"

namespace odmoe::jinja {

// One owner.
class Bound {
 public:
  // The first `n_required` must be there.  A parameter that is named "" is taken by position only.  Raises a
  // TypeError as Python does: too many, unknown, given twice, missing.
  Bound(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names,
        size_t n_required = 0);

  // is_nothing() where it was not given.
  const Value& operator[](size_t index) const { return values_[index]; }
  bool has(size_t index) const { return !values_[index].is_nothing(); }
  // Not given or None.
  bool is_absent(size_t index) const { return !has(index) || values_[index].is_none(); }
  Value value_or(size_t index, const Value& fallback) const { return has(index) ? values_[index] : fallback; }
  bool truth_or(size_t index, bool fallback) const { return has(index) ? truth(values_[index]) : fallback; }
  // Raise a TypeError where it is something else.
  int64_t integer_or(size_t index, int64_t fallback) const;
  const Text& text(size_t index) const;

 private:
  std::vector<Value> values_;
};

// The value as an index or count, as Python takes it for one: an int.
int64_t as_index(const Value& value);

}  // namespace odmoe::jinja
