#include "jinja/arguments.h"

#include <algorithm>

namespace odmoe::jinja {

Bound::Bound(std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names, size_t n_required)
    : values_(names.size()) {
  if (arguments.positional.size() > names.size()) {
    raise(FailureKind::kType, "{}() takes at most {} arguments ({} given)", function, names.size(),
          arguments.positional.size());
  }
  std::ranges::copy(arguments.positional, values_.begin());
  for (const auto& [name, value] : arguments.named) {
    const auto* found = std::ranges::find(names, name.view());
    if (found == names.end() || name.empty()) {
      raise(FailureKind::kType, "{}() got an unexpected keyword argument '{}'", function, name.view());
    }
    Value& place = values_[static_cast<size_t>(found - names.begin())];
    if (!place.is_nothing()) {
      raise(FailureKind::kType, "{}() got multiple values for argument '{}'", function, name.view());
    }
    place = value;
  }
  for (size_t i = 0; i < n_required; ++i) {
    if (!has(i)) raise(FailureKind::kType, "{}() takes at least {} arguments", function, n_required);
  }
}

int64_t Bound::integer_or(size_t index, int64_t fallback) const {
  return has(index) ? as_index(values_[index]) : fallback;
}

const Text& Bound::text(size_t index) const {
  const Value& value = values_[index];
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (!value.is_text()) raise(FailureKind::kType, "a str is required, not '{}'", type_name(value));
  return value.text();
}

int64_t as_index(const Value& value) {
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (!value.is_integer()) {
    raise(FailureKind::kType, "'{}' object cannot be interpreted as an integer", type_name(value));
  }
  return value.integer();
}

}  // namespace odmoe::jinja
