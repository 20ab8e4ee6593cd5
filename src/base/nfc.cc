#include "base/nfc.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <vector>

#include "base/nfc_tables.h"
#include "base/utf8.h"

namespace odmoe {
namespace {

using nfc::Composition;

// Hangul syllables are composed by arithmetic (Unicode, chapter 3.12).
constexpr uint32_t kSyllable = 0xAC00, kLeading = 0x1100, kVowel = 0x1161, kTrailing = 0x11A7;
constexpr uint32_t kLeadings = 19, kVowels = 21, kTrailings = 28, kSyllables = 11172;

constexpr auto kByWhole = [] {
  std::array<Composition, std::size(nfc::kCompositions)> sorted{};
  std::ranges::copy(nfc::kCompositions, sorted.begin());
  std::ranges::sort(sorted, {}, &Composition::whole);
  return sorted;
}();
// What may be composed with what stands before it.
constexpr auto kSeconds = [] {
  std::array<uint32_t, std::size(nfc::kCompositions)> sorted{};
  std::ranges::transform(nfc::kCompositions, sorted.begin(), &Composition::second);
  std::ranges::sort(sorted);
  return sorted;
}();

struct Mark {
  uint32_t code_point;
  uint8_t level;  // its combining class
};

uint8_t level_of(uint32_t code_point) {
  const auto* found = std::ranges::lower_bound(nfc::kClasses, code_point, {}, &nfc::CombiningClass::last);
  return found != std::end(nfc::kClasses) && found->first <= code_point ? found->level : 0;
}

const Composition* decomposition_of(uint32_t code_point) {
  const auto* other = std::ranges::lower_bound(nfc::kDecompositions, code_point, {}, &Composition::whole);
  if (other != std::end(nfc::kDecompositions) && other->whole == code_point) return other;
  const auto* found = std::ranges::lower_bound(kByWhole, code_point, {}, &Composition::whole);
  return found != kByWhole.end() && found->whole == code_point ? found : nullptr;
}

// 0: none.
uint32_t composed(uint32_t first, uint32_t second) {
  if (first - kLeading < kLeadings && second - kVowel < kVowels) {
    return kSyllable + ((first - kLeading) * kVowels + (second - kVowel)) * kTrailings;
  }
  if (first - kSyllable < kSyllables && (first - kSyllable) % kTrailings == 0 && second > kTrailing &&
      second < kTrailing + kTrailings) {
    return first + (second - kTrailing);
  }
  const auto key = [](const Composition& c) { return uint64_t{c.first} << 32 | c.second; };
  const uint64_t wanted = uint64_t{first} << 32 | second;
  const auto* found = std::ranges::lower_bound(nfc::kCompositions, wanted, {}, key);
  return found != std::end(nfc::kCompositions) && key(*found) == wanted ? found->whole : 0;
}

// Whether it is the same in NFC whatever stands before it.
bool is_stable(uint32_t code_point) {
  if (code_point < 0x300) return true;
  if (code_point - kVowel < kVowels) return false;
  if (code_point > kTrailing && code_point < kTrailing + kTrailings) return false;
  const auto* other = std::ranges::lower_bound(nfc::kDecompositions, code_point, {}, &Composition::whole);
  if (other != std::end(nfc::kDecompositions) && other->whole == code_point) return false;
  return !std::ranges::binary_search(kSeconds, code_point);
}

void decompose(uint32_t code_point, std::vector<Mark>& out) {
  if (code_point - kSyllable < kSyllables) {  // composed() puts together what is taken apart here
    const uint32_t index = code_point - kSyllable;
    out.push_back({kLeading + index / (kVowels * kTrailings), 0});
    out.push_back({kVowel + index / kTrailings % kVowels, 0});
    if (index % kTrailings != 0) out.push_back({kTrailing + index % kTrailings, 0});
    return;
  }
  if (const Composition* parts = decomposition_of(code_point)) {
    decompose(parts->first, out);
    if (parts->second != 0) decompose(parts->second, out);
    return;
  }
  out.push_back({code_point, level_of(code_point)});
}

// Writes a run of decomposed characters, composed again.
void compose(std::vector<Mark>& run, std::string& out) {
  for (auto from = run.begin(); from != run.end();) {
    if (from->level == 0) {
      ++from;
      continue;
    }
    const auto to = std::find_if(from, run.end(), [](const Mark& mark) { return mark.level == 0; });
    std::stable_sort(from, to, [](const Mark& a, const Mark& b) { return a.level < b.level; });
    from = to;
  }
  size_t kept = 0;
  size_t starter = run.size();  // the last one kept, which marks are composed with
  uint8_t between = 0;          // the class of the last one kept after it
  for (size_t i = 0; i < run.size(); ++i) {
    const Mark mark = run[i];
    const bool beside = starter + 1 == kept;
    if (starter < kept && (beside || between < mark.level)) {
      if (const uint32_t whole = composed(run[starter].code_point, mark.code_point)) {
        run[starter].code_point = whole;
        continue;
      }
    }
    if (mark.level == 0) starter = kept;
    between = mark.level;
    run[kept++] = mark;
  }
  for (size_t i = 0; i < kept; ++i) out += to_utf8(run[i].code_point);
  run.clear();
}

}  // namespace

bool is_surely_nfc(std::string_view text) {
  // The first code point that is not stable by itself begins with this byte.
  if (std::ranges::all_of(text, [](char c) { return static_cast<uint8_t>(c) < 0xCC; })) return true;
  uint8_t last = 0;
  while (!text.empty()) {
    const Utf8Char c = read_utf8(text);
    text.remove_prefix(c.length);
    if (!c.valid || c.code_point < 0x300) {
      last = 0;
      continue;
    }
    if (!is_stable(c.code_point)) return false;
    const uint8_t level = level_of(c.code_point);
    if (level != 0 && level < last) return false;
    last = level;
  }
  return true;
}

std::optional<std::string> compose_nfc(std::string_view text) {
  if (is_surely_nfc(text)) return std::nullopt;
  std::string out;
  out.reserve(text.size());
  std::vector<Mark> run;
  for (std::string_view rest = text; !rest.empty();) {
    const Utf8Char c = read_utf8(rest);
    if (!c.valid) {
      compose(run, out);
      out += rest.substr(0, c.length);
    } else {
      // What is stable and no mark begins anew: nothing before it changes with it.
      if (is_stable(c.code_point) && level_of(c.code_point) == 0) compose(run, out);
      decompose(c.code_point, run);
    }
    rest.remove_prefix(c.length);
  }
  compose(run, out);
  if (out == text) return std::nullopt;
  return out;
}

}  // namespace odmoe
