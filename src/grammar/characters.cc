#include "grammar/characters.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"
#include "odmoe/format.h"

namespace odmoe::grammar {

const CharSet kDigitSet = {{'0', '9'}};
const CharSet kWordSet = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharSet kSpaceSet = {{0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680},
                           {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                           {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const CharSet kLineEndSet = {{0x0A, 0x0A}, {0x0D, 0x0D}, {0x2028, 0x2029}};

CharSet normal(CharSet ranges) {
  std::ranges::sort(ranges);
  CharSet set;
  for (const CharRange& range : ranges) {
    if (range.first > range.last) continue;
    if (!set.empty() && range.first <= set.back().last + 1) {
      set.back().last = std::max(set.back().last, range.last);
    } else {
      set.push_back(range);
    }
  }
  return set;
}

CharSet inverse(const CharSet& set) {
  CharSet result;
  uint32_t next = 0;
  for (const CharRange& range : set) {
    if (range.first > next) result.push_back({next, range.first - 1});
    next = range.last + 1;
  }
  if (next <= kLastCharacter) result.push_back({next, kLastCharacter});
  return result;
}

bool contains(const CharSet& set, uint32_t character) {
  const auto after = std::ranges::upper_bound(set, character, {}, &CharRange::first);
  return after != set.begin() && std::prev(after)->last >= character;
}

bool intersect(const CharSet& a, const CharSet& b) {
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i].last < b[j].first) {
      ++i;
    } else if (b[j].last < a[i].first) {
      ++j;
    } else {
      return true;
    }
  }
  return false;
}

CharSet with_other_case(CharSet set) {
  CharSet result = set;
  for (const CharRange& range : set) {
    for (const auto& [from, to, other] : {std::array<uint32_t, 3>{'a', 'z', 'A'}, {'A', 'Z', 'a'}}) {
      const uint32_t first = std::max(range.first, from), last = std::min(range.last, to);
      if (first <= last) result.push_back({first - from + other, last - from + other});
    }
  }
  return normal(std::move(result));
}

std::optional<uint32_t> next_character(std::string_view& text) {
  const Utf8Char c = read_utf8(text);
  if (!c.valid) return std::nullopt;
  text.remove_prefix(c.length);
  return c.code_point;
}

namespace {

std::string escape_of(uint32_t c) {
  switch (c) {
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    default:
      return odmoe::format("\\u{:04x}", c);
  }
}

}  // namespace

// Code points with UTF-8 of the same length, from one to another, as sequences of ranges of bytes.
void CharacterGrammar::split(std::string_view first, std::string_view last, Bytes prefix,
                             std::vector<Bytes>& out) {
  const auto low = static_cast<uint8_t>(first[0]), high = static_cast<uint8_t>(last[0]);
  const auto with = [&](uint8_t from, uint8_t to) {
    Bytes longer = prefix;
    longer.push_back({from, to});
    return longer;
  };
  if (first.size() == 1) {
    out.push_back(with(low, high));
    return;
  }
  const std::string least(first.size() - 1, '\x80'), most(first.size() - 1, '\xBF');
  if (low == high) {
    split(first.substr(1), last.substr(1), with(low, low), out);
    return;
  }
  const bool whole_first = first.substr(1) == least, whole_last = last.substr(1) == most;
  if (!whole_first) split(first.substr(1), most, with(low, low), out);
  const auto from = static_cast<uint8_t>(low + (whole_first ? 0 : 1));
  const auto to = static_cast<uint8_t>(high - (whole_last ? 0 : 1));
  if (from <= to) split(least, most, with(from, to), out);
  if (!whole_last) split(least, last.substr(1), with(high, high), out);
}

// What follows a first byte: those with the same tails have one way.
CharacterGrammar::Expression CharacterGrammar::tails(const std::vector<Bytes>& texts) {
  const auto known = known_tails_.find(texts);
  if (known != known_tails_.end()) return known->second;
  GrammarBuilder& b = *builder_;
  ByteSet last;
  std::map<Expression, ByteSet> heads;  // by what follows them
  for (size_t i = 0; i < texts.size();) {
    const ByteRange head = texts[i][0];
    ByteSet set;
    for (size_t byte = head.first; byte <= head.last; ++byte) set.set(byte);
    std::vector<Bytes> rest;
    for (; i < texts.size() && texts[i][0] == head; ++i) {
      if (texts[i].size() > 1) rest.emplace_back(texts[i].begin() + 1, texts[i].end());
    }
    if (rest.empty()) {
      last |= set;
    } else {
      heads[tails(rest)] |= set;
    }
  }
  std::vector<Expression> ways;
  if (last.any()) ways.push_back(b.bytes(last));
  for (const auto& [rest, set] : heads) ways.push_back(b.sequence({b.bytes(set), rest}));
  const Expression all = b.choice(std::move(ways));
  known_tails_.emplace(texts, all);
  return all;
}

CharacterGrammar::Expression CharacterGrammar::one_of(const CharSet& set) {
  const auto known = known_.find(set);
  if (known != known_.end()) return known->second;
  GrammarBuilder& b = *builder_;
  ByteSet plain;
  std::vector<Expression> ways;
  std::array<std::vector<Bytes>, 5> texts;  // by length
  for (const CharRange& range : set) {
    for (uint32_t c = range.first; c <= std::min<uint32_t>(range.last, 0x7F); ++c) {
      if (spelling_ == Spelling::kJsonString && (c < 0x20 || c == '"' || c == '\\' || c == 0x7F)) {
        ways.push_back(b.literal(escape_of(c)));
      } else {
        plain.set(c);
      }
    }
    // UTF-8 grows at these.
    for (const CharRange& part : {CharRange{0x80, 0x7FF}, CharRange{0x800, 0xD7FF}, CharRange{0xE000, 0xFFFF},
                                  CharRange{0x10000, kLastCharacter}}) {
      const uint32_t first = std::max(range.first, part.first), last = std::min(range.last, part.last);
      if (first > last || !b.work().spend(8)) continue;
      const std::string from = to_utf8(first);
      split(from, to_utf8(last), {}, texts[from.size()]);
    }
  }
  if (plain.any()) ways.push_back(b.bytes(plain));
  for (std::vector<Bytes>& some : texts) {
    if (some.empty()) continue;
    std::ranges::sort(some);
    ways.push_back(tails(some));
  }
  const bool small = ways.size() == 1 && plain.any();
  const Expression all = b.choice(std::move(ways));
  const Expression one = small ? all : b.shared(all);
  known_.emplace(set, one);
  return one;
}

}  // namespace odmoe::grammar
