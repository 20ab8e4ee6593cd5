// Characters as Python's str has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "jinja/unicode_tables.h"

namespace odmoe::jinja {

bool has_property(uint32_t code_point, Property property);
inline bool is_space(uint32_t code_point) { return has_property(code_point, kSpace); }
inline bool is_alphanumeric(uint32_t c) {
  return has_property(c, kAlpha) || has_property(c, kDecimal) || has_property(c, kDigit) ||
         has_property(c, kNumeric);
}
inline bool is_cased(uint32_t c) {
  return has_property(c, kUpper) || has_property(c, kLower) || has_property(c, kTitle);
}
// Of a digit of any script; -1: none.
int decimal_value(uint32_t code_point);

enum class Case { kUpper, kLower, kTitle, kFold };
// What a character becomes, without regard to those around it.
std::string change_case(uint32_t code_point, Case to);

// The code point that begins at a byte; bytes that are no UTF-8 count as U+FFFD.
uint32_t code_point_at(std::string_view text, size_t place);

// Whether a capital sigma that begins at `place` ends a word, and so becomes a final one.
bool is_final_sigma(std::string_view text, size_t place);

// Some character is of the wanted case, and none of the other one or in title case.
bool is_text_in_case(std::string_view text, Property wanted, Property other);

// Of spaces as str.strip() sees them.
size_t skip_space(std::string_view text, size_t place);
size_t skip_space_back(std::string_view text, size_t place);

}  // namespace odmoe::jinja
