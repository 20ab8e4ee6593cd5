#include "jinja/percent_format.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "jinja/arithmetic.h"
#include "jinja/number_text.h"
#include "jinja/show.h"

namespace odmoe::jinja {
namespace {

struct Conversion {
  bool left = false, zero = false, plus = false, space = false, alternate = false;
  size_t width = 0;
  std::optional<int> precision;
  char type = 's';
};

class Formatter {
 public:
  Formatter(Heap& heap, const Text& format, const Value& values)
      : heap_(heap), text_(format), format_(format.view()), values_(values), out_(heap) {
    if (const List* list = values.list(); list != nullptr && list->tuple) tuple_ = list;
  }

  Value run() {
    while (at_ < format_.size()) {
      const size_t percent = std::min(format_.find('%', at_), format_.size());
      out_.add(text_, at_, percent);
      at_ = percent;
      if (at_ < format_.size()) conversion();
    }
    const bool all_used = tuple_ != nullptr ? used_ == tuple_->items.size() : used_ > 0 || takes_names();
    if (!all_used) raise(FailureKind::kType, "not all arguments converted during string formatting");
    return out_.take(text_.markup());
  }

 private:
  static constexpr size_t kMaxWidth = 100'000;

  // What may stand unused on the right of %.
  bool takes_names() const {
    return values_.dict() != nullptr || (values_.list() != nullptr && tuple_ == nullptr) ||
           values_.range() != nullptr || values_.is_undefined();
  }

  char peek() const {
    if (at_ >= format_.size()) raise(FailureKind::kValue, "incomplete format");
    return format_[at_];
  }

  void conversion() {
    const size_t begin = at_++;
    std::optional<Value> named;
    if (peek() == '(') named = key();
    Conversion how;
    flags(how);
    how.width = number([&](int64_t stars) {
      how.left |= stars < 0;
      return stars < 0 ? -stars : stars;
    });
    if (peek() == '.') {
      ++at_;
      how.precision = static_cast<int>(number([](int64_t stars) { return std::max<int64_t>(stars, 0); }));
    }
    while (peek() == 'h' || peek() == 'l' || peek() == 'L') ++at_;
    how.type = peek();
    ++at_;
    if (how.type == '%') {
      out_.add(text_, begin, begin + 1);
      return;
    }
    const Value value = named ? *named : argument();
    convert(how, value, begin);
  }

  Value key() {
    size_t depth = 1;
    const size_t begin = ++at_;
    for (; depth > 0; ++at_) {
      if (at_ >= format_.size()) raise(FailureKind::kValue, "incomplete format key");
      if (format_[at_] == '(') ++depth;
      if (format_[at_] == ')') --depth;
    }
    const Dict* dict = values_.dict();
    if (dict == nullptr) raise(FailureKind::kType, "format requires a mapping");
    const std::string_view name = format_.substr(begin, at_ - 1 - begin);
    const Value* found = dict->find(name);
    if (found == nullptr) raise(FailureKind::kValue, "there is no key '{}' to format", name);
    used_ = 1;
    return *found;
  }

  void flags(Conversion& how) {
    for (;; ++at_) {
      switch (peek()) {
        case '-':
          how.left = true;
          break;
        case '0':
          how.zero = true;
          break;
        case '+':
          how.plus = true;
          break;
        case ' ':
          how.space = true;
          break;
        case '#':
          how.alternate = true;
          break;
        default:
          return;
      }
    }
  }

  template <typename OfStars>
  size_t number(const OfStars& of_stars) {
    int64_t result = 0;
    if (peek() == '*') {
      ++at_;
      const Value value = argument();
      if (!value.is_integer()) raise(FailureKind::kType, "* wants int");
      result = of_stars(value.integer());
    } else {
      for (; peek() >= '0' && peek() <= '9' && std::cmp_less_equal(result, kMaxWidth); ++at_) {
        result = result * 10 + (peek() - '0');
      }
    }
    if (std::cmp_greater(result, kMaxWidth))
      raise(FailureKind::kLimit, "formats to more than {} characters", kMaxWidth);
    return static_cast<size_t>(result);
  }

  Value argument() {
    if (tuple_ != nullptr) {
      if (used_ == tuple_->items.size()) raise(FailureKind::kType, "not enough arguments for format string");
      return tuple_->items[used_++];
    }
    if (used_ > 0) raise(FailureKind::kType, "not enough arguments for format string");
    used_ = 1;
    return values_;
  }

  void convert(const Conversion& how, const Value& value, size_t begin) {
    switch (how.type) {
      case 's':
      case 'r':
      case 'a':
        return text(how, value);
      case 'c':
        return character(how, value);
      case 'd':
      case 'i':
      case 'u':
      case 'x':
      case 'X':
      case 'o':
        return integer(how, value);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        return real(how, value);
      default:
        raise(FailureKind::kValue, "unsupported format character at index {}", text_.index(begin) + 1);
    }
  }

  void pad(const Conversion& how, const Text& text) {
    const size_t n_chars = text.n_chars();
    const std::string fill(how.width > n_chars ? how.width - n_chars : 0, ' ');
    if (!how.left) out_.own(fill);
    out_.add(text);
    if (how.left) out_.own(fill);
  }

  void text(const Conversion& how, const Value& value) {
    Text shown = how.type == 's' ? to_text(heap_, value) : to_repr(heap_, value);
    if (text_.markup()) {
      shown = how.type == 's' ? escape(heap_, value) : escape(heap_, shown);
    }
    if (how.precision) shown = part(heap_, shown, 0, shown.place(static_cast<size_t>(*how.precision)));
    pad(how, shown);
  }

  void character(const Conversion& how, const Value& value) {
    if (value.is_text() && value.text().n_chars() == 1) return pad(how, value.text());
    if (!value.is_integer()) raise(FailureKind::kType, "%c requires int or char");
    if (value.integer() < 0 || value.integer() > 0x10FFFF) {
      raise(FailureKind::kValue, "%c arg not in range(0x110000)");
    }
    TextBuilder shown(heap_);
    shown.add(to_utf8(static_cast<uint32_t>(value.integer())), value.number_said());
    pad(how, shown.take());
  }

  void digits(const Conversion& how, const Digits& digits, bool said, std::string_view prefix,
              bool finite = true) {
    std::string sign = digits.negative ? "-" : how.plus ? "+" : how.space ? " " : "";
    sign += prefix;
    std::string number = digits.text;
    if (how.zero && !how.left && finite && sign.size() + number.size() < how.width) {
      number.insert(0, how.width - sign.size() - number.size(), '0');
    }
    TextBuilder shown(heap_);
    shown.add(sign + number, said);
    pad(how, shown.take());
  }

  void integer(const Conversion& how, const Value& value) {
    Value number = value;
    const bool decimal = how.type == 'd' || how.type == 'i' || how.type == 'u';
    if (number.is_float() && decimal) number = whole(number.real(), number.number_said());
    if (!number.is_integer()) {
      raise(FailureKind::kType, "%{} format: a real number is required, not {}", how.type, type_name(value));
    }
    const int base = decimal ? 10 : how.type == 'o' ? 8 : 16;
    Digits shown = integer_digits(number, base, how.type == 'X');
    if (how.precision && shown.text.size() < static_cast<size_t>(*how.precision)) {
      shown.text.insert(0, static_cast<size_t>(*how.precision) - shown.text.size(), '0');
    }
    std::string_view prefix;
    if (how.alternate && !decimal) prefix = how.type == 'o' ? "0o" : how.type == 'x' ? "0x" : "0X";
    digits(how, shown, number.number_said(), prefix);
  }

  void real(const Conversion& how, const Value& value) {
    if (!value.is_number()) raise(FailureKind::kType, "must be real number, not {}", type_name(value));
    const double number = value.as_double();
    digits(how, float_digits(number, how.type, how.precision.value_or(6), how.alternate), value.number_said(),
           "");
  }

  Heap& heap_;
  Text text_;
  std::string_view format_;
  Value values_;
  const List* tuple_ = nullptr;
  size_t at_ = 0, used_ = 0;
  TextBuilder out_;
};

}  // namespace

Value percent_format(Heap& heap, const Text& format, const Value& values) {
  return Formatter(heap, format, values).run();
}

}  // namespace odmoe::jinja
