#include "jinja/unicode.h"

#include <algorithm>
#include <iterator>
#include <span>

#include "base/utf8.h"
#include "jinja/text.h"

namespace odmoe::jinja {
namespace {

constexpr uint32_t kCapitalSigma = 0x3A3;

uint32_t properties_of(uint32_t code_point) {
  const auto* found = std::ranges::partition_point(
      kProperties, [&](const PropertyRange& range) { return range.last < code_point; });
  return found != std::end(kProperties) && found->first <= code_point ? found->mask : 0U;
}

std::string mapped(uint32_t code_point, std::span<const CaseRun> runs, std::span<const CaseWord> words) {
  const auto word = std::ranges::lower_bound(words, code_point, {}, &CaseWord::code_point);
  if (word != words.end() && word->code_point == code_point) return word->becomes;
  const auto run =
      std::ranges::partition_point(runs, [&](const CaseRun& one) { return one.last < code_point; });
  const bool in_run =
      run != runs.end() && run->first <= code_point && (code_point - run->first) % run->step == 0;
  return to_utf8(in_run ? static_cast<uint32_t>(static_cast<int64_t>(code_point) + run->delta) : code_point);
}

}  // namespace

bool has_property(uint32_t code_point, Property property) {
  return (properties_of(code_point) >> property & 1U) != 0;
}

int decimal_value(uint32_t code_point) {
  if (code_point >= '0' && code_point <= '9') return static_cast<int>(code_point - '0');
  if (code_point < 0x80 || !has_property(code_point, kDecimal)) return -1;
  // Digits of a script follow one another, and no two scripts' do: each run has ten.  Mathematical digits,
  // the one run that has more, begins where this holds too.
  uint32_t first = code_point;
  while (has_property(first - 1, kDecimal)) --first;
  return static_cast<int>((code_point - first) % 10);
}

std::string change_case(uint32_t code_point, Case to) {
  if (code_point < 0x80) {
    const char c = static_cast<char>(code_point);
    const bool up = to == Case::kUpper || to == Case::kTitle;
    if (up && c >= 'a' && c <= 'z') return {static_cast<char>(c - 'a' + 'A')};
    if (!up && c >= 'A' && c <= 'Z') return {static_cast<char>(c - 'A' + 'a')};
    return {c};
  }
  switch (to) {
    case Case::kUpper:
      return mapped(code_point, kUpperRuns, kUpperWords);
    case Case::kLower:
      return mapped(code_point, kLowerRuns, kLowerWords);
    case Case::kTitle:
      return mapped(code_point, kTitleRuns, kTitleWords);
    case Case::kFold:
      break;
  }
  return mapped(code_point, kFoldRuns, kFoldWords);
}

uint32_t code_point_at(std::string_view text, size_t place) {
  const auto byte = static_cast<unsigned char>(text[place]);
  if (byte < 0x80) return byte;
  const Utf8Char read = read_utf8(text.substr(place));
  return read.valid ? read.code_point : 0xFFFD;
}

bool is_final_sigma(std::string_view text, size_t place) {
  if (code_point_at(text, place) != kCapitalSigma) return false;
  size_t before = place;
  bool after_letter = false;
  while (before > 0) {
    before = previous_place(text, before);
    const uint32_t c = code_point_at(text, before);
    if (has_property(c, kCaseIgnorable)) continue;
    after_letter = is_cased(c);
    break;
  }
  if (!after_letter) return false;
  for (size_t at = place + char_size(text, place); at < text.size(); at += char_size(text, at)) {
    const uint32_t c = code_point_at(text, at);
    if (!has_property(c, kCaseIgnorable)) return !is_cased(c);
  }
  return true;
}

bool is_text_in_case(std::string_view text, Property wanted, Property other) {
  bool any = false;
  for (size_t at = 0; at < text.size(); at += char_size(text, at)) {
    const uint32_t c = code_point_at(text, at);
    if (has_property(c, other) || has_property(c, kTitle)) return false;
    any |= has_property(c, wanted);
  }
  return any;
}

size_t skip_space(std::string_view text, size_t place) {
  while (place < text.size() && is_space(code_point_at(text, place))) place += char_size(text, place);
  return place;
}

size_t skip_space_back(std::string_view text, size_t place) {
  while (place > 0) {
    const size_t before = previous_place(text, place);
    if (!is_space(code_point_at(text, before))) break;
    place = before;
  }
  return place;
}

}  // namespace odmoe::jinja
