#include "jinja/str_format.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "jinja/access.h"
#include "jinja/number_text.h"
#include "jinja/show.h"

namespace odmoe::jinja {
namespace {

constexpr size_t kMaxFormatWidth = 100'000;

// [[fill]align][sign][z][#][0][width][grouping][.precision][type]
struct FormatSpec {
  std::string fill = " ";
  char align = 0;  // of < > = ^; 0: as the value's type has it
  char sign = '-';
  bool alternate = false;
  size_t width = 0;
  char grouping = 0;
  std::optional<size_t> precision;
  char type = 0;
};

class SpecReader {
 public:
  explicit SpecReader(std::string_view text) : text_(text) {}

  FormatSpec read() {
    FormatSpec spec;
    alignment(spec);
    if (is_one_of("+- ")) spec.sign = take();
    if (is_one_of("z")) take();
    if (is_one_of("#")) {
      take();
      spec.alternate = true;
    }
    if (is_one_of("0")) {
      take();
      if (spec.align == 0) {
        spec.fill = "0";
        spec.align = '=';
      }
    }
    spec.width = number();
    if (is_one_of(",_")) spec.grouping = take();
    if (is_one_of(".")) {
      take();
      if (at_ == text_.size() || text_[at_] < '0' || text_[at_] > '9') {
        raise(FailureKind::kValue, "Format specifier missing precision");
      }
      spec.precision = number();
    }
    if (at_ < text_.size()) spec.type = take();
    if (at_ < text_.size()) raise(FailureKind::kValue, "Invalid format specifier '{}'", text_);
    return spec;
  }

 private:
  void alignment(FormatSpec& spec) {
    if (text_.empty()) return;
    const auto is_align = [&](size_t at) {
      return at < text_.size() && std::string_view("<>=^").contains(text_[at]);
    };
    const size_t fill_size = char_size(text_, 0);
    if (is_align(fill_size)) {
      spec.fill = text_.substr(0, fill_size);
      at_ = fill_size;
    }
    if (is_align(at_)) spec.align = take();
  }

  bool is_one_of(std::string_view chars) const { return at_ < text_.size() && chars.contains(text_[at_]); }
  char take() { return text_[at_++]; }
  size_t number() {
    size_t result = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      result = result * 10 + static_cast<size_t>(text_[at_] - '0');
      if (result > kMaxFormatWidth) {
        raise(FailureKind::kLimit, "formats to more than {} characters", kMaxFormatWidth);
      }
    }
    return result;
  }

  std::string_view text_;
  size_t at_ = 0;
};

std::string grouped(const std::string& digits, char separator, size_t each) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % each == 0) out += separator;
    out += digits[i];
  }
  return out + digits.substr(whole);
}

// Numbers with sign and prefix before what "=" fills.
Text padded_number(Heap& heap, const FormatSpec& spec, const Digits& digits, std::string_view prefix,
                   std::string_view suffix, size_t group, bool said) {
  std::string sign = digits.negative ? "-" : spec.sign == '-' ? "" : std::string(1, spec.sign);
  sign += prefix;
  std::string number = digits.text;
  if (spec.grouping != 0) {
    // Zeros that fill up are grouped too.
    if (spec.align == '=' && spec.fill == "0") {
      const auto width = [&] {
        return sign.size() + grouped(number, spec.grouping, group).size() + suffix.size();
      };
      while (width() < spec.width) number.insert(0, 1, '0');
      if (width() > spec.width && number.size() > digits.text.size()) number.erase(0, 1);
    }
    number = grouped(number, spec.grouping, group);
    if (spec.align == '=' && spec.fill == "0" && sign.size() + number.size() + suffix.size() < spec.width) {
      number.insert(0, 1, '0');
    }
  }
  number += suffix;
  const size_t size = sign.size() + number.size();
  const size_t all = spec.width > size ? spec.width - size : 0;
  const char align = spec.align == 0 ? '>' : spec.align;
  const size_t left = align == '>' ? all : align == '^' ? all / 2 : 0, middle = align == '=' ? all : 0;
  const auto filled = [&](size_t n) {
    std::string fill;
    for (; n > 0; --n) fill += spec.fill;
    return fill;
  };
  TextBuilder out(heap);
  out.own(filled(left)).add(sign, said).own(filled(middle)).add(number, said);
  return out.own(filled(all - left - middle)).take();
}

Text format_integer(Heap& heap, const FormatSpec& spec, const Value& value) {
  if (spec.precision) raise(FailureKind::kValue, "Precision not allowed in integer format specifier");
  const bool said = value.number_said();
  switch (spec.type) {
    case 0:
    case 'd':
    case 'n':
      return padded_number(heap, spec, integer_digits(value, 10, false), "", "", 3, said);
    case 'b':
      return padded_number(heap, spec, integer_digits(value, 2, false), spec.alternate ? "0b" : "", "", 4,
                           said);
    case 'o':
      return padded_number(heap, spec, integer_digits(value, 8, false), spec.alternate ? "0o" : "", "", 4,
                           said);
    case 'x':
      return padded_number(heap, spec, integer_digits(value, 16, false), spec.alternate ? "0x" : "", "", 4,
                           said);
    case 'X':
      return padded_number(heap, spec, integer_digits(value, 16, true), spec.alternate ? "0X" : "", "", 4,
                           said);
    case 'c': {
      if (value.integer() < 0 || value.integer() > 0x10FFFF) {
        raise(FailureKind::kValue, "%c arg not in range(0x110000)");
      }
      Digits one{.negative = false, .text = to_utf8(static_cast<uint32_t>(value.integer()))};
      return padded_number(heap, spec, one, "", "", 3, said);
    }
    default:
      raise(FailureKind::kValue, "Unknown format code '{}' for object of type 'int'", spec.type);
  }
}

Text format_float(Heap& heap, const FormatSpec& spec, double number, bool said) {
  char type = spec.type;
  int precision = static_cast<int>(spec.precision.value_or(6));
  std::string_view suffix;
  Digits digits;
  if (type == '%') {
    digits = float_digits(number * 100, 'f', precision, spec.alternate);
    suffix = "%";
  } else if (type == 0 && !spec.precision) {
    digits.text = float_repr(number);
    digits.negative = digits.text.starts_with('-');
    if (digits.negative) digits.text.erase(0, 1);
  } else {
    if (type == 'n' || type == 0) type = 'g';
    if (!std::string_view("eEfFgG").contains(type)) {
      raise(FailureKind::kValue, "Unknown format code '{}' for object of type 'float'", spec.type);
    }
    if (type == 'g' || type == 'G') precision = std::max(precision, 1);
    digits = float_digits(number, type, precision, spec.alternate);
    // Without a type there is always a digit behind the point.
    const bool whole = digits.text.find_first_not_of("0123456789") == std::string::npos;
    if (spec.type == 0 && whole) digits.text += ".0";
  }
  return padded_number(heap, spec, digits, "", suffix, 3, said);
}

Text format_text(Heap& heap, const FormatSpec& spec, const Text& value) {
  if (spec.type != 0 && spec.type != 's') {
    raise(FailureKind::kValue, "Unknown format code '{}' for object of type 'str'", spec.type);
  }
  if (spec.align == '=' && spec.fill != "0") {
    raise(FailureKind::kValue, "'=' alignment not allowed in string format specifier");
  }
  if (spec.sign != '-') raise(FailureKind::kValue, "Sign not allowed in string format specifier");
  Text shown = value;
  if (spec.precision) shown = part(heap, shown, 0, shown.place(*spec.precision));
  const size_t all = spec.width > shown.n_chars() ? spec.width - shown.n_chars() : 0;
  const size_t left = spec.align == '>' ? all : spec.align == '^' ? all / 2 : 0;
  TextBuilder out(heap);
  for (size_t i = 0; i < left; ++i) out.own(spec.fill);
  out.add(shown);
  for (size_t i = left; i < all; ++i) out.own(spec.fill);
  return out.take(shown.markup());
}

// format(value, spec)
Text format_value(Heap& heap, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return soft_text(heap, value);
  const bool formats = value.is_text() || value.is_number();
  if (!formats) {
    if (value.is_undefined())
      raise(FailureKind::kType, "unsupported format string passed to Undefined.__format__");
    raise(FailureKind::kType, "unsupported format string passed to {}.__format__", type_name(value));
  }
  const FormatSpec spec = SpecReader(spec_text).read();
  if (value.is_text()) return format_text(heap, spec, value.text());
  const bool as_float =
      value.is_float() || std::string_view("eEfFgG%").contains(spec.type == 0 ? ' ' : spec.type);
  if (as_float) return format_float(heap, spec, value.as_double(), value.number_said());
  return format_integer(heap, spec, value);
}

class StrFormatter {
 public:
  StrFormatter(Heap& heap, const Text& format, const Arguments& arguments)
      : heap_(heap), text_(format), arguments_(arguments) {}

  Text run() {
    const size_t end = text_.size();
    return formatted(0, end, 2).take(text_.markup());
  }

 private:
  // Fields may hold further fields in their specification, but these none.
  TextBuilder formatted(size_t at, size_t end, int depth) {
    if (depth < 0) raise(FailureKind::kValue, "Max string recursion exceeded");
    const std::string_view bytes = text_.view().substr(0, end);
    TextBuilder out(heap_);
    while (at < end) {
      const size_t brace = std::min(bytes.find_first_of("{}", at), end);
      out.add(text_, at, brace);
      if (brace == end) break;
      at = brace + 1;
      if (at < end && bytes[at] == bytes[brace]) {
        out.add(text_, at, at + 1);
        ++at;
      } else if (bytes[brace] == '}') {
        raise(FailureKind::kValue, "Single '}}' encountered in format string");
      } else {
        const size_t close = field_end(at, end);
        field(at, close, depth, out);
        at = close + 1;
      }
    }
    return out;
  }

  size_t field_end(size_t at, size_t end) const {
    const std::string_view bytes = text_.view();
    for (int open = 1; at < end; ++at) {
      if (bytes[at] == '{') ++open;
      if (bytes[at] == '}' && --open == 0) return at;
    }
    raise(FailureKind::kValue, "expected '}}' before end of string");
  }

  void field(size_t begin, size_t end, int depth, TextBuilder& out) {
    const std::string_view bytes = text_.view().substr(0, end);
    // The name ends at ! or : that is in no brackets.
    size_t at = begin;
    for (bool in_brackets = false; at < end; ++at) {
      if (bytes[at] == '[') in_brackets = true;
      if (bytes[at] == ']') in_brackets = false;
      if (!in_brackets && (bytes[at] == '!' || bytes[at] == ':')) break;
    }
    Value value = lookup(bytes.substr(begin, at - begin));
    if (at < end && bytes[at] == '!') {
      if (at + 1 >= end) raise(FailureKind::kValue, "unmatched '{{' in format spec");
      value = converted(value, bytes[at + 1]);
      at += 2;
      if (at < end && bytes[at] != ':') raise(FailureKind::kValue, "expected ':' after conversion specifier");
    }
    const Text spec = at < end ? formatted(at + 1, end, depth - 1).take() : Text();
    if (text_.markup()) {
      if (value.is_text() && value.text().markup() && !spec.empty()) {
        raise(FailureKind::kValue, "Unsupported format specification for Markup.");
      }
      out.add(escape(heap_, format_value(heap_, value, spec.view())));
    } else {
      out.add(format_value(heap_, value, spec.view()));
    }
  }

  Value converted(const Value& value, char how) {
    if (how == 's') return to_text(heap_, value);
    if (how == 'r' || how == 'a') return to_repr(heap_, value);
    raise(FailureKind::kValue, "Unknown conversion specifier '{}'", how);
  }

  Value lookup(std::string_view name) {
    const size_t first = std::min(name.find_first_of(".["), name.size());
    Value value = argument(name.substr(0, first));
    std::string_view rest = name.substr(first);
    while (!rest.empty()) {
      if (rest[0] == '.') {
        const size_t end = std::min(rest.find_first_of(".[", 1), rest.size());
        if (end == 1) raise(FailureKind::kValue, "Empty attribute in format string");
        value = get_attribute(heap_, value, rest.substr(1, end - 1));
        rest.remove_prefix(end);
        continue;
      }
      if (rest[0] != '[')
        raise(FailureKind::kValue, "Only '.' or '[' may follow ']' in format field specifier");
      const size_t close = rest.find(']');
      if (close == std::string_view::npos) raise(FailureKind::kValue, "Missing ']' in format string");
      const std::string_view key = rest.substr(1, close - 1);
      if (key.empty()) raise(FailureKind::kValue, "Empty attribute in format string");
      const auto index = number(key);
      value = get_item(heap_, value, index ? Value::integer(*index) : make_text(key));
      rest.remove_prefix(close + 1);
    }
    return value;
  }

  static std::optional<size_t> number(std::string_view text) {
    constexpr size_t kMostDigits = 9;
    if (text.empty() || text.size() > kMostDigits) return std::nullopt;
    size_t result = 0;
    for (const char c : text) {
      if (c < '0' || c > '9') return std::nullopt;
      result = result * 10 + static_cast<size_t>(c - '0');
    }
    return result;
  }

  Value argument(std::string_view name) {
    auto index = number(name);
    if (name.empty() || index) {
      if (numbered_ && *numbered_ != !name.empty()) {
        raise(FailureKind::kValue,
              "cannot switch between manual field specification and automatic field numbering");
      }
      numbered_ = !name.empty();
      if (name.empty()) index = next_++;
      if (*index >= arguments_.positional.size()) {
        raise(FailureKind::kValue, "Replacement index {} out of range for positional args tuple", *index);
      }
      return arguments_.positional[*index];
    }
    for (const auto& [key, value] : arguments_.named) {
      if (key.view() == name) return value;
    }
    raise(FailureKind::kValue, "there is no argument '{}' to format", name);
  }

  Heap& heap_;
  Text text_;
  const Arguments& arguments_;
  size_t next_ = 0;
  std::optional<bool> numbered_;  // fields say their numbers
};

}  // namespace

Value str_format(Heap& heap, const Text& format, const Arguments& arguments) {
  return StrFormatter(heap, format, arguments).run();
}

}  // namespace odmoe::jinja
