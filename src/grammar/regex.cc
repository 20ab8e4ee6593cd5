#include "grammar/regex.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/hex.h"
#include "odmoe/format.h"

namespace odmoe::grammar {
namespace {

using Kind = Regex::Node::Kind;
using Index = Regex::Index;

class Parser {
 public:
  explicit Parser(std::string_view pattern) : rest_(pattern) {}

  Result<Regex> parse() {
    ODMOE_RETURN_IF_ERROR(leading_flags());
    ODMOE_ASSIGN_OR_RETURN(regex_.root, alternatives(0));
    if (!rest_.empty()) return refuse("a ) without its (");
    return std::move(regex_);
  }

 private:
  struct Flags {
    bool any_case = false, dot_all = false;
  };
  // A character, or a class that a letter behind a backslash names.
  struct Atom {
    CharSet set;
    bool single = false;
  };

  template <typename... Args>
  static std::unexpected<Error> refuse(std::format_string<Args...> why, Args&&... args) {
    return fail(ErrorKind::kUsage, "{}", odmoe::format(why, std::forward<Args>(args)...));
  }

  bool eat(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  // (?i) before all, as other dialects have it.
  Status leading_flags() {
    while (rest_.starts_with("(?") && rest_.size() > 2 && std::string_view("imsuxaL").contains(rest_[2])) {
      const size_t end = rest_.find_first_of(":)");
      if (end == rest_.npos || rest_[end] == ':') return {};
      ODMOE_RETURN_IF_ERROR(set_flags(rest_.substr(2, end - 2)));
      rest_.remove_prefix(end + 1);
    }
    return {};
  }

  Status set_flags(std::string_view names) {
    bool on = true;
    for (const char c : names) {
      if (c == '-') {
        on = false;
      } else if (c == 'i') {
        flags_.any_case = on;
        if (on) regex_.exact = false;
      } else if (c == 's') {
        flags_.dot_all = on;
      } else if (c != 'u') {
        return refuse("the flag {} is not supported", c > ' ' && c < 0x7F ? c : '?');
      }
    }
    return {};
  }

  Index set_node(CharSet set) { return regex_.add({.kind = Kind::kSet, .set = std::move(set)}); }

  Result<Index> alternatives(int depth) {
    std::vector<Index> ways;
    do {
      ODMOE_ASSIGN_OR_RETURN(const Index way, sequence(depth));
      ways.push_back(way);
    } while (eat("|"));
    if (ways.size() == 1) return ways[0];
    return regex_.add({.kind = Kind::kChoice, .children = std::move(ways)});
  }

  // Until what ends it: the end, | or ).
  Result<Index> sequence(int depth) {
    std::vector<Index> children;
    std::optional<size_t> possessive;  // a child that gives nothing back
    while (!rest_.empty() && rest_[0] != '|' && rest_[0] != ')') {
      ODMOE_ASSIGN_OR_RETURN(const Index one, atom(depth));
      bool gives_nothing_back = false;
      ODMOE_ASSIGN_OR_RETURN(const Index repeated, quantified(one, gives_nothing_back));
      children.push_back(repeated);
      if (possessive) ODMOE_RETURN_IF_ERROR(check_possessive(children[*possessive], repeated));
      possessive.reset();
      if (gives_nothing_back) possessive = children.size() - 1;
    }
    if (possessive && depth > 0)
      return refuse("possessive quantifiers are only supported before what cannot follow them");
    if (children.size() == 1) return children[0];
    if (children.empty()) return regex_.add({});
    return regex_.add({.kind = Kind::kSequence, .children = std::move(children)});
  }

  // A possessive quantifier takes what a greedy one does where what it repeats cannot come next.
  Status check_possessive(Index possessive, Index next) const {
    const Regex::Node& one = regex_.nodes[regex_.nodes[possessive].children[0]];
    const Regex::Node& then = regex_.nodes[next];
    const bool end = then.kind == Kind::kEnd;
    const bool other = then.kind == Kind::kSet && one.kind == Kind::kSet && !intersect(one.set, then.set);
    if (one.kind == Kind::kSet && (end || other)) return {};
    return refuse("possessive quantifiers are only supported before what cannot follow them");
  }

  Result<Index> group(int depth) {
    if (depth >= kMaxPatternDepth) return refuse("its groups nest deeper than {}", kMaxPatternDepth);
    const Flags outer = flags_;
    Regex::Node around;
    bool assertion = true;
    if (eat("?=") || eat("?!")) {
      around.kind = Kind::kAhead;
    } else if (eat("?<=") || eat("?<!")) {
      around.kind = Kind::kBehind;
    } else {
      assertion = false;
      ODMOE_RETURN_IF_ERROR(group_kind());
    }
    around.negated = assertion && last_eaten('!');
    ODMOE_ASSIGN_OR_RETURN(const Index inside, alternatives(depth + 1));
    if (!eat(")")) return refuse("a ( without its )");
    flags_ = outer;
    if (!assertion) return inside;
    around.children = {inside};
    return regex_.add(std::move(around));
  }

  bool last_eaten(char c) const { return *(rest_.data() - 1) == c; }

  // What stands behind ( where it is not an assertion.
  Status group_kind() {
    if (!eat("?")) return {};
    if (eat(":")) return {};
    if (eat("P<") || eat("<")) {
      const size_t end = rest_.find('>');
      if (end == rest_.npos || end == 0) return refuse("the name of a group has no end");
      rest_.remove_prefix(end + 1);
      return {};
    }
    const size_t end = rest_.find_first_not_of("imsuxaL-");
    if (end != rest_.npos && end > 0 && rest_[end] == ':') {
      ODMOE_RETURN_IF_ERROR(set_flags(rest_.substr(0, end)));
      rest_.remove_prefix(end + 1);
      return {};
    }
    const char c = rest_.empty() ? ' ' : rest_[0];
    return refuse("groups that begin with (?{} are not supported", c > ' ' && c < 0x7F ? c : '?');
  }

  Result<Index> atom(int depth) {
    if (eat("(")) return group(depth);
    if (eat("[")) return characters();
    if (eat(".")) return set_node(inverse(flags_.dot_all ? CharSet{} : kLineEndSet));
    if (eat("^") || eat("\\A")) return regex_.add({.kind = Kind::kStart});
    if (eat("$") || eat("\\Z") || eat("\\z")) return regex_.add({.kind = Kind::kEnd});
    if (eat("\\b")) return regex_.add({.kind = Kind::kWordEdge});
    if (eat("\\B")) return regex_.add({.kind = Kind::kWordEdge, .negated = true});
    if (std::string_view("*+?").contains(rest_[0])) return refuse("a quantifier has nothing before it");
    ODMOE_ASSIGN_OR_RETURN(Atom one, character(false));
    return set_node(flags_.any_case ? with_other_case(std::move(one.set)) : std::move(one.set));
  }

  static std::optional<int32_t> number(std::string_view& text) {
    size_t n = 0;
    int32_t value = 0;
    for (; n < text.size() && n < 8 && text[n] >= '0' && text[n] <= '9'; ++n)
      value = value * 10 + (text[n] - '0');
    if (n == 0) return std::nullopt;
    text.remove_prefix(n);
    return value;
  }

  // {n}, {n,}, {n,m} and {,m}; nothing where a { is only itself.
  std::optional<std::pair<int32_t, int32_t>> braces() {
    std::string_view text = rest_;
    if (!text.starts_with('{')) return std::nullopt;
    text.remove_prefix(1);
    const auto low = number(text);
    std::optional<int32_t> high = low;
    if (text.starts_with(',')) {
      text.remove_prefix(1);
      high = number(text);
      if (!low && !high) return std::nullopt;
      if (!high) high = -1;
    }
    if (!high || !text.starts_with('}')) return std::nullopt;
    rest_ = text.substr(1);
    return std::pair(low.value_or(0), *high);
  }

  Result<Index> quantified(Index one, bool& possessive) {
    Regex::Node repeat{.kind = Kind::kRepeat, .min = 0, .max = -1, .children = {one}};
    if (eat("*")) {
    } else if (eat("+")) {
      repeat.min = 1;
    } else if (eat("?")) {
      repeat.max = 1;
    } else if (const auto numbers = braces()) {
      std::tie(repeat.min, repeat.max) = *numbers;
      if (repeat.max >= 0 && repeat.max < repeat.min) {
        return refuse("the numbers of a quantifier are out of order");
      }
      if (std::max(repeat.min, repeat.max) > kMaxPatternRepeat) {
        return refuse("quantifiers above {} are not supported", kMaxPatternRepeat);
      }
    } else {
      return one;
    }
    possessive = eat("+");
    if (!possessive) eat("?");  // lazy: takes the same
    if (!rest_.empty() && std::string_view("*+?").contains(rest_[0])) {
      return refuse("two quantifiers follow each other");
    }
    return regex_.add(std::move(repeat));
  }

  std::optional<uint32_t> hex(size_t n) {
    if (n == 0 || n > 6 || rest_.size() < n) return std::nullopt;
    uint32_t value = 0;
    for (const char c : rest_.substr(0, n)) {
      const int digit = hex_digit(c);
      if (digit < 0) return std::nullopt;
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    rest_.remove_prefix(n);
    return value;
  }

  // Behind \u: four digits, two surrogates of four each, or any number in braces.
  std::optional<uint32_t> unicode_escape() {
    if (eat("{")) {
      const auto code = hex(std::min(rest_.find('}'), rest_.size()));
      return code && *code <= kLastCharacter && eat("}") ? code : std::nullopt;
    }
    const auto code = hex(4);
    if (!code || *code < 0xD800 || *code >= 0xE000) return code;
    if (*code >= 0xDC00 || !eat("\\u")) return std::nullopt;
    const auto low = hex(4);
    if (!low || *low < 0xDC00 || *low >= 0xE000) return std::nullopt;
    return 0x10000 + ((*code - 0xD800) << 10U) + (*low - 0xDC00);
  }

  static Atom one(uint32_t code) { return {.set = {{code, code}}, .single = true}; }

  Result<Atom> character(bool in_class) {
    if (eat("\\")) return escape(in_class);
    const auto c = next_character(rest_);
    if (!c) return refuse("it is not UTF-8");
    return one(*c);
  }

  Result<Atom> escape(bool in_class) {
    if (rest_.empty()) return refuse("it ends with a \\");
    const char c = rest_[0];
    if (static_cast<uint8_t>(c) >= 0x80) return character(in_class);
    rest_.remove_prefix(1);
    switch (c) {
      case 'd':
        return Atom{kDigitSet};
      case 'D':
        return Atom{inverse(kDigitSet)};
      case 'w':
        return Atom{kWordSet};
      case 'W':
        return Atom{inverse(kWordSet)};
      case 's':
        return Atom{kSpaceSet};
      case 'S':
        return Atom{inverse(kSpaceSet)};
      case 'p':
      case 'P':
        return property(c == 'P');
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case 'b':
        if (in_class) return one('\b');
        break;
      case '0':
        if (rest_.empty() || rest_[0] < '0' || rest_[0] > '9') return one(0);
        break;
      case 'c':
        if (!rest_.empty() && ((rest_[0] | 0x20) >= 'a' && (rest_[0] | 0x20) <= 'z')) {
          const auto code = static_cast<uint32_t>(rest_[0] & 0x1F);
          rest_.remove_prefix(1);
          return one(code);
        }
        break;
      case 'x':
      case 'u': {
        const auto code = c == 'x' ? hex(2) : unicode_escape();
        if (!code || (*code >= 0xD800 && *code < 0xE000)) {
          return refuse("\\{} must be followed by the number of a character", c);
        }
        return one(*code);
      }
      default:
        if (c >= ' ' && c < 0x7F && std::string_view("^$\\.*+?()[]{}|/-!\"#%&',:;<=>@_`~ ").contains(c)) {
          return one(static_cast<uint8_t>(c));
        }
    }
    return refuse("\\{} is not supported", c > ' ' && c < 0x7F ? c : '?');
  }

  Result<Atom> property(bool negated) {
    std::string_view name = rest_.substr(0, 1);
    if (eat("{")) {
      const size_t end = rest_.find('}');
      if (end == rest_.npos) return refuse("\\p{{ without its }}");
      name = rest_.substr(0, end);
      rest_.remove_prefix(end + 1);
    } else {
      rest_.remove_prefix(name.size());
    }
    auto set = unicode_property(name);
    if (!set) return refuse("there is no property \\p{{{}}}", name.substr(0, 40));
    return Atom{negated ? inverse(*set) : *std::move(set)};
  }

  Result<Index> characters() {
    const bool inverted = eat("^");
    CharSet all;
    bool any = false;
    while (!eat("]")) {
      if (rest_.empty()) return refuse("a [ without its ]");
      if (rest_.starts_with("[:")) return refuse("[[: :]] is not supported");
      ODMOE_ASSIGN_OR_RETURN(Atom some, character(true));
      any = true;
      if (some.single && rest_.size() > 1 && rest_[0] == '-' && rest_[1] != ']') {
        const std::string_view before = rest_;
        rest_.remove_prefix(1);
        ODMOE_ASSIGN_OR_RETURN(const Atom end, character(true));
        if (!end.single) {
          rest_ = before;  // the - is only itself
        } else if (end.set[0].first < some.set[0].first) {
          return refuse("a range of characters is out of order");
        } else {
          some.set[0].last = end.set[0].last;
        }
      }
      all.insert(all.end(), some.set.begin(), some.set.end());
    }
    if (!any && !inverted) return refuse("[] matches nothing");
    all = normal(std::move(all));
    if (flags_.any_case) all = with_other_case(std::move(all));
    return set_node(inverted ? inverse(all) : std::move(all));
  }

  std::string_view rest_;
  Regex regex_;
  Flags flags_;
};

}  // namespace

Result<Regex> parse_regex(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return fail(ErrorKind::kUsage, "it is longer than {} bytes", kMaxPatternBytes);
  }
  return Parser(pattern).parse();
}

Regex literal_regex(std::span<const std::string> texts) {
  Regex regex;
  std::vector<Index> ways;
  for (std::string_view text : texts) {
    std::vector<Index> children = {regex.add({})};
    while (!text.empty()) {
      const auto c = next_character(text);
      // What is not UTF-8 cannot be written at all.
      children.push_back(regex.add({.kind = Kind::kSet, .set = c ? CharSet{{*c, *c}} : CharSet{}}));
      if (!c) break;
    }
    ways.push_back(regex.add({.kind = Kind::kSequence, .children = std::move(children)}));
  }
  const Index any = regex.add({.kind = Kind::kChoice, .children = std::move(ways)});
  const Index start = regex.add({.kind = Kind::kStart}), end = regex.add({.kind = Kind::kEnd});
  regex.root = regex.add({.kind = Kind::kSequence, .children = {start, any, end}});
  return regex;
}

}  // namespace odmoe::grammar
