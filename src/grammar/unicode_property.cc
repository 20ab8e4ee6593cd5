#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>

#include "base/mutex.h"
#include "base/utf8.h"
#include "grammar/characters.h"

namespace odmoe::grammar {
namespace {

// Planes 3 to 13 hold no characters but some ideographs at the beginning of the third; what is beyond
// are private ones and tags.
constexpr uint32_t kEndOfLetters = 0x33480;

// ECMA-262's long names of general categories, which PCRE2 does not know.
constexpr auto kLongNames =
    std::to_array<std::pair<std::string_view, std::string_view>>({{"Letter", "L"},
                                                                  {"Lowercase_Letter", "Ll"},
                                                                  {"Uppercase_Letter", "Lu"},
                                                                  {"Titlecase_Letter", "Lt"},
                                                                  {"Modifier_Letter", "Lm"},
                                                                  {"Other_Letter", "Lo"},
                                                                  {"Mark", "M"},
                                                                  {"Nonspacing_Mark", "Mn"},
                                                                  {"Number", "N"},
                                                                  {"Decimal_Number", "Nd"},
                                                                  {"digit", "Nd"},
                                                                  {"Punctuation", "P"},
                                                                  {"punct", "P"},
                                                                  {"Symbol", "S"},
                                                                  {"Separator", "Z"},
                                                                  {"Space_Separator", "Zs"},
                                                                  {"Other", "C"},
                                                                  {"Control", "Cc"}});

std::string short_name(std::string_view name) {
  for (const std::string_view prefix : {"General_Category=", "gc="}) {
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  }
  for (const auto& [longer, shorter] : kLongNames) {
    if (name == longer) return std::string(shorter);
  }
  return std::string(name);
}

std::optional<CharSet> find(const std::string& name) {
  const std::string pattern = "\\p{" + name + "}+";
  int error = 0;
  size_t where = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF, &error, &where,
                    nullptr),
      &pcre2_code_free);
  if (!code) return std::nullopt;
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  // All characters in their order, so that every run of those that match is a range.
  std::string all;
  all.reserve(size_t{kEndOfLetters} * 4);
  std::vector<std::pair<size_t, uint32_t>> places;  // where some characters begin
  for (uint32_t c = 0; c < kEndOfLetters; ++c) {
    if (c == 0xD800) c = 0xE000;
    if (c % 64 == 0) places.emplace_back(all.size(), c);
    all += to_utf8(c);
  }
  const auto character_at = [&](size_t at) {
    const auto after = std::ranges::upper_bound(places, at, {}, &std::pair<size_t, uint32_t>::first);
    auto [begin, c] = *std::prev(after);
    for (; begin < at; ++c) begin += to_utf8(c).size();
    return c;
  };
  CharSet set;
  size_t at = 0;
  while (at < all.size()) {
    const int found = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(all.data()), all.size(), at,
                                  PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    if (found < 0) break;
    const size_t* span = pcre2_get_ovector_pointer(match.get());
    const uint32_t first = character_at(span[0]);
    const uint32_t last = span[1] == all.size() ? kEndOfLetters - 1 : character_at(span[1]) - 1;
    set.push_back({first, last});
    at = span[1];
  }
  return normal(std::move(set));
}

}  // namespace

std::optional<CharSet> unicode_property(std::string_view name) {
  static Mutex mutex;
  static std::map<std::string, std::optional<CharSet>> known;
  constexpr size_t kMaxKnown = 256, kMaxName = 64;
  if (name.empty() || name.size() > kMaxName) return std::nullopt;
  const std::string key = short_name(name);
  for (const char c : key) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!word && c != '_' && c != '=') return std::nullopt;
  }
  const MutexLock lock(mutex);
  if (const auto entry = known.find(key); entry != known.end()) return entry->second;
  if (known.size() >= kMaxKnown) known.clear();
  return known.emplace(key, find(key)).first->second;
}

}  // namespace odmoe::grammar
