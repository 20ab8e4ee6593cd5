#include "grammar/pattern.h"

#include <algorithm>
#include <array>
#include <format>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace odmoe::grammar {
namespace {

using Expression = GrammarBuilder::Expression;

constexpr uint32_t kLastCharacter = 0x10FFFF;

struct Range {
  uint32_t first = 0, last = 0;
};
using Class = std::vector<Range>;  // of code points

// What ECMA-262 counts as white space and ends of lines.
const Class kSpaces = {{0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680},
                       {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                       {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Class kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Class kDigits = {{'0', '9'}};
const Class kLineEnds = {{0x0A, 0x0A}, {0x0D, 0x0D}, {0x2028, 0x2029}};

Class inverse(Class ranges) {
  std::ranges::sort(ranges, {}, &Range::first);
  Class result;
  uint32_t next = 0;
  for (const Range& range : ranges) {
    if (range.first > next) result.push_back({next, range.first - 1});
    next = std::max(next, range.last + 1);
  }
  if (next <= kLastCharacter) result.push_back({next, kLastCharacter});
  return result;
}

std::string utf8(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(static_cast<uint8_t>(value)); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6U), byte(0x80 | (c & 0x3F))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12U), byte(0x80 | (c >> 6U & 0x3F)), byte(0x80 | (c & 0x3F))};
  return {byte(0xF0 | c >> 18U), byte(0x80 | (c >> 12U & 0x3F)), byte(0x80 | (c >> 6U & 0x3F)),
          byte(0x80 | (c & 0x3F))};
}

class Parser {
 public:
  // `any_character`: of a JSON string, of which the pattern need only match a part; nothing: of a plain text,
  // which it matches whole.
  Parser(GrammarBuilder& builder, std::string_view pattern, std::optional<Expression> any_character)
      : builder_(&builder), rest_(pattern) {
    if (any_character) anything_ = builder.repeat(*any_character, 0, -1);
  }

  Result<Expression> parse() {
    std::vector<Expression> ways;
    while (true) {
      const bool from_start = eat("^");
      ODMOE_ASSIGN_OR_RETURN(const Expression inside, sequence(0));
      const bool to_end = eat("$");
      std::vector<Expression> parts;
      if (!from_start && anything_) parts.push_back(*anything_);
      parts.push_back(inside);
      if (!to_end && anything_) parts.push_back(*anything_);
      ways.push_back(builder_->sequence(std::move(parts)));
      if (rest_.empty()) return builder_->choice(std::move(ways));
      if (rest_[0] == ')') return refuse("a ) without its (");
      if (!eat("|")) return refuse("^ and $ are only supported around a whole alternative outside of groups");
    }
  }

 private:
  static std::unexpected<Error> refuse(std::string_view why) { return fail(ErrorKind::kUsage, "{}", why); }

  bool eat(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }

  // Until what ends it: the end, | ) or $.
  Result<Expression> sequence(int depth) {
    std::vector<Expression> parts = {builder_->empty()};
    while (!rest_.empty() && !std::string_view("|)$").contains(rest_[0])) {
      ODMOE_ASSIGN_OR_RETURN(const Expression one, atom(depth));
      ODMOE_ASSIGN_OR_RETURN(const Expression repeated, quantified(one));
      parts.push_back(repeated);
    }
    return builder_->sequence(std::move(parts));
  }

  Result<Expression> group(int depth) {
    if (depth >= kMaxPatternDepth) return refuse("its groups nest too deeply");
    if (rest_.starts_with("?") && !eat("?:"))
      return refuse("of groups that begin with (? only (?: is supported");
    std::vector<Expression> ways;
    do {
      ODMOE_ASSIGN_OR_RETURN(const Expression way, sequence(depth + 1));
      ways.push_back(way);
    } while (eat("|"));
    if (rest_.starts_with("$")) return refuse("$ is only supported outside of groups");
    if (!eat(")")) return refuse("a ( without its )");
    return builder_->choice(std::move(ways));
  }

  Result<Expression> atom(int depth) {
    if (eat("(")) return group(depth);
    if (eat("[")) return characters();
    if (eat(".")) return one_of(inverse(kLineEnds));
    if (rest_[0] == '^') return refuse("^ is only supported at the beginning");
    if (std::string_view("*+?{").contains(rest_[0])) return refuse("a quantifier has nothing before it");
    if (std::string_view("]}").contains(rest_[0])) return refuse("a ] or } stands alone; put \\ before it");
    ODMOE_ASSIGN_OR_RETURN(const Class one, character(false));
    return one_of(one);
  }

  static std::optional<int> number(std::string_view& text) {
    size_t n = 0;
    int value = 0;
    for (; n < text.size() && n < 5 && text[n] >= '0' && text[n] <= '9'; ++n)
      value = value * 10 + (text[n] - '0');
    if (n == 0) return std::nullopt;
    text.remove_prefix(n);
    return value;
  }

  Result<Expression> quantified(Expression one) {
    int min = 1, max = 1;
    if (eat("*")) {
      min = 0;
      max = -1;
    } else if (eat("+")) {
      max = -1;
    } else if (eat("?")) {
      min = 0;
    } else if (eat("{")) {
      const auto low = number(rest_);
      if (!low) return refuse("{ must be followed by a number; put \\ before it to mean itself");
      min = max = *low;
      if (eat(",")) max = number(rest_).value_or(-1);
      if (!eat("}")) return refuse("a { without its }");
      if (max >= 0 && max < min) return refuse("the numbers of a quantifier are out of order");
      if (std::max(min, max) > kMaxPatternRepeat)
        return refuse(std::format("quantifiers above {} are not supported", kMaxPatternRepeat));
    } else {
      return one;
    }
    eat("?");  // lazy: takes the same
    if (!rest_.empty() && std::string_view("*+?{").contains(rest_[0]))
      return refuse("two quantifiers follow each other");
    return builder_->repeat(one, min, max);
  }

  std::optional<uint32_t> hex(size_t n) {
    if (rest_.size() < n) return std::nullopt;
    uint32_t value = 0;
    for (const char c : rest_.substr(0, n)) {
      constexpr std::string_view kHex = "0123456789abcdef";
      const size_t digit = kHex.find(static_cast<char>(c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c));
      if (digit == kHex.npos) return std::nullopt;
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    rest_.remove_prefix(n);
    return value;
  }

  // A character, or a class that a letter behind a backslash names.
  Result<Class> character(bool in_class) {
    if (eat("\\")) return escape(in_class);
    const auto first = static_cast<uint8_t>(rest_[0]);
    const size_t n = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (rest_.size() < n) return refuse("it is no UTF-8");
    uint32_t c = n == 1 ? first : first & (0x7FU >> n);
    for (size_t i = 1; i < n; ++i) c = c << 6U | (static_cast<uint8_t>(rest_[i]) & 0x3FU);
    rest_.remove_prefix(n);
    return Class{{c, c}};
  }

  Result<Class> escape(bool in_class) {
    if (rest_.empty()) return refuse("it ends with a \\");
    const char c = rest_[0];
    rest_.remove_prefix(1);
    const auto one = [](uint32_t code) { return Class{{code, code}}; };
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return inverse(kDigits);
      case 'w':
        return kWord;
      case 'W':
        return inverse(kWord);
      case 's':
        return kSpaces;
      case 'S':
        return inverse(kSpaces);
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
      case 'x':
      case 'u': {
        const auto code = hex(c == 'x' ? 2 : 4);
        if (!code || (*code >= 0xD800 && *code < 0xE000))
          return refuse(std::format("\\{} must be followed by the number of a character", c));
        return one(*code);
      }
      default:
        if (c > ' ' && c < 0x7F && std::string_view("^$\\.*+?()[]{}|/-!\"#%&',:;<=>@_`~").contains(c))
          return one(static_cast<uint8_t>(c));
    }
    return refuse(std::format("\\{} is not supported", c > ' ' && c < 0x7F ? c : '?'));
  }

  Result<Expression> characters() {
    const bool inverted = eat("^");
    Class all;
    while (!eat("]")) {
      if (rest_.empty()) return refuse("a [ without its ]");
      ODMOE_ASSIGN_OR_RETURN(Class some, character(true));
      const bool single = some.size() == 1 && some[0].first == some[0].last;
      if (single && rest_.size() > 1 && rest_[0] == '-' && rest_[1] != ']') {
        rest_.remove_prefix(1);
        ODMOE_ASSIGN_OR_RETURN(const Class end, character(true));
        if (end.size() != 1 || end[0].first != end[0].last || end[0].first < some[0].first)
          return refuse("a range of characters is out of order");
        some[0].last = end[0].last;
      }
      all.insert(all.end(), some.begin(), some.end());
    }
    if (inverted) all = inverse(std::move(all));
    if (all.empty()) return refuse("[] matches nothing");
    return one_of(all);
  }

  // Of code points with UTF-8 of the same length, whose texts are as long.
  Expression same_length(std::string_view first, std::string_view last) {
    GrammarBuilder& b = *builder_;
    const auto low = static_cast<uint8_t>(first[0]), high = static_cast<uint8_t>(last[0]);
    if (first.size() == 1) return b.range(low, high);
    const std::string least(first.size() - 1, '\x80'), most(first.size() - 1, '\xBF');
    const auto head = [&](uint8_t from, uint8_t to, std::string_view tail_first, std::string_view tail_last) {
      return b.sequence({b.range(from, to), same_length(tail_first, tail_last)});
    };
    if (low == high) return head(low, low, first.substr(1), last.substr(1));
    std::vector<Expression> ways = {head(low, low, first.substr(1), most),
                                    head(high, high, least, last.substr(1))};
    if (high - low > 1)
      ways.push_back(head(static_cast<uint8_t>(low + 1), static_cast<uint8_t>(high - 1), least, most));
    return b.choice(std::move(ways));
  }

  // A character of the class, as it stands in the text.
  Expression one_of(Class ranges) {
    GrammarBuilder& b = *builder_;
    ByteSet plain;
    std::array<bool, 0x80> escaped{};
    std::vector<Expression> ways;
    for (const Range& range : ranges) {
      for (uint32_t c = range.first; c <= std::min<uint32_t>(range.last, 0x7F); ++c) {
        if (anything_ && (c < 0x20 || c == '"' || c == '\\' || c == 0x7F)) {
          escaped[c] = true;
        } else {
          plain.set(c);
        }
      }
      // UTF-8 grows at these; surrogates are no characters.
      for (const Range& part : {Range{0x80, 0x7FF}, Range{0x800, 0xD7FF}, Range{0xE000, 0xFFFF},
                                Range{0x10000, kLastCharacter}}) {
        const uint32_t first = std::max(range.first, part.first), last = std::min(range.last, part.last);
        if (first <= last) ways.push_back(same_length(utf8(first), utf8(last)));
      }
    }
    if (plain.any()) ways.push_back(b.bytes(plain));
    for (uint32_t c = 0; c < escaped.size(); ++c) {
      if (escaped[c]) ways.push_back(b.literal(escape_of(c)));
    }
    return b.choice(std::move(ways));
  }

  static std::string escape_of(uint32_t c) {
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
        return std::format("\\u{:04x}", c);
    }
  }

  GrammarBuilder* builder_;
  std::string_view rest_;
  std::optional<Expression> anything_;  // in a JSON string, where the pattern is not held
};

Result<Expression> parse(GrammarBuilder& builder, std::string_view pattern,
                         std::optional<Expression> any_character) {
  if (pattern.size() > kMaxPatternBytes)
    return fail(ErrorKind::kUsage, "it is longer than {} bytes", kMaxPatternBytes);
  return Parser(builder, pattern, any_character).parse();
}

}  // namespace

Result<Expression> add_pattern(GrammarBuilder& builder, std::string_view pattern, Expression any_character) {
  return parse(builder, pattern, any_character);
}

Result<Expression> add_whole_pattern(GrammarBuilder& builder, std::string_view pattern) {
  return parse(builder, pattern, std::nullopt);
}

}  // namespace odmoe::grammar
