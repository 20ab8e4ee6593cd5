#include "jinja/show.h"

#include <cmath>
#include <cstdlib>
#include <string>

#include "jinja/unicode.h"
#include "odmoe/format.h"

namespace odmoe::jinja {
namespace {

class Repr {
 public:
  Repr(Heap& heap, TextBuilder& out) : heap_(heap), out_(out) {}

  void append(const Value& value) {
    const Heap::Level level(heap_);  // namespaces may hold themselves
    heap_.work(1);
    if (value.is_text()) return text(value.text());
    if (const List* list = value.list()) return items(*list);
    if (const Dict* dict = value.dict()) return entries(dict->entries);
    if (const View* view = value.dict_view()) return this->view(type_name(value), *view);
    if (const Range* range = value.range()) return this->range(*range);
    if (Members* members = value.members()) return this->members(*members);
    if (const Callable* callable = value.callable()) {
      out_.own(callable->type == "Macro" ? odmoe::format("<Macro '{}'>", callable->name)
                                         : odmoe::format("<{} {}>", callable->type, callable->name));
      return;
    }
    if (const Iterator* iterator = value.iterator()) {
      out_.own(odmoe::format("<{} object>", iterator->type));
      return;
    }
    scalar(value);
  }

 private:
  void scalar(const Value& value) {
    const bool said = value.number_said();
    if (value.is_none()) {
      out_.own("None");
    } else if (value.is_bool()) {
      out_.add(value.boolean() ? "True" : "False", said);
    } else if (value.is_float()) {
      out_.add(float_repr(value.real()), said);
    } else if (value.is_integer()) {
      out_.add(integer_text(value), said);
    } else {
      out_.own("Undefined");
    }
  }

  void text(const Text& text) {
    const std::string_view bytes = text.view();
    if (text.markup()) out_.own("Markup(");
    const bool doubled = bytes.contains('\'') && !bytes.contains('"');
    const std::string_view quote = doubled ? "\"" : "'";
    out_.own(quote);
    size_t done = 0;  // what is shown as it is goes out in one piece
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = char_size(bytes, at);
      const std::string escaped = escape_char(bytes.substr(at, size), quote[0]);
      if (!escaped.empty()) {
        out_.add(text, done, at).become(text, at, escaped);
        done = at + size;
      }
      at += size;
    }
    out_.add(text, done, bytes.size()).own(quote);
    if (text.markup()) out_.own(")");
  }

  // Empty: it is shown as it is.
  static std::string escape_char(std::string_view bytes, char quote) {
    const uint32_t c = code_point_at(bytes, 0);
    switch (c) {
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\\':
        return "\\\\";
      default:
        break;
    }
    if (c == static_cast<unsigned char>(quote)) return {'\\', quote};
    if (c >= ' ' && c < 0x7F) return {};
    if (has_property(c, kPrintable)) return {};
    if (c < 0x100) return odmoe::format("\\x{:02x}", c);
    return c < 0x10000 ? odmoe::format("\\u{:04x}", c) : odmoe::format("\\U{:08x}", c);
  }

  void items(const List& list) {
    out_.own(list.tuple ? "(" : "[");
    bool first = true;
    for (const Value& item : list.items) {
      if (!first) out_.own(", ");
      first = false;
      append(item);
    }
    if (list.tuple && list.items.size() == 1) out_.own(",");
    out_.own(list.tuple ? ")" : "]");
  }

  template <typename Entries>
  void entries(const Entries& entries) {
    out_.own("{");
    bool first = true;
    for (const auto& [key, value] : entries) {
      if (!first) out_.own(", ");
      first = false;
      append(key);
      out_.own(": ");
      append(value);
    }
    out_.own("}");
  }

  void view(std::string_view type, const View& view) {
    out_.own(type).own("([");
    for (size_t i = 0; i < view.dict->entries.size(); ++i) {
      if (i > 0) out_.own(", ");
      append(view.at(heap_, i));
    }
    out_.own("])");
  }

  void range(const Range& range) {
    out_.own(odmoe::format("range({}, {}", range.start, range.stop));
    if (range.step != 1) out_.own(odmoe::format(", {}", range.step));
    out_.own(")");
  }

  void members(Members& members) {
    if (const auto* space = dynamic_cast<const Namespace*>(&members)) {
      out_.own("<Namespace ");
      out_.own("{");
      bool first = true;
      for (const auto& [key, value] : space->values) {
        if (!first) out_.own(", ");
        first = false;
        append(key);
        out_.own(": ");
        append(value);
      }
      out_.own("}>");
      return;
    }
    const auto index = members.member(heap_, "index");
    const auto length = index ? members.member(heap_, "length") : std::nullopt;
    if (length) {
      out_.own(odmoe::format("<{} {}/{}>", members.type, index->integer(), length->integer()));
    } else {
      out_.own(odmoe::format("<{} object>", members.type));
    }
  }

  Heap& heap_;
  TextBuilder& out_;
};

}  // namespace

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  // The shortest digits, in a layout that is the library's: 1e-05, 0.1, 1e+22.
  std::string shortest = odmoe::format("{}", value);
  std::string sign;
  if (shortest.starts_with('-')) {
    sign = "-";
    shortest.erase(0, 1);
  }
  int exponent = 0;  // of a point before the first digit
  if (const size_t e = shortest.find('e'); e != std::string::npos) {
    exponent = std::atoi(shortest.c_str() + e + 1);
    shortest.resize(e);
  }
  const size_t point = std::min(shortest.find('.'), shortest.size());
  exponent += static_cast<int>(point);
  std::string digits = shortest;
  if (point < digits.size()) digits.erase(point, 1);
  const size_t zeros = std::min(digits.find_first_not_of('0'), digits.size() - 1);
  digits.erase(0, zeros);
  exponent -= static_cast<int>(zeros);
  while (digits.size() > 1 && digits.ends_with('0')) digits.pop_back();
  if (digits == "0") return sign + "0.0";

  const int n_digits = static_cast<int>(digits.size());
  if (exponent > 16 || exponent <= -4) {
    std::string text = sign + digits[0];
    if (n_digits > 1) text += "." + digits.substr(1);
    return text + odmoe::format("e{}{:02}", exponent - 1 < 0 ? '-' : '+', std::abs(exponent - 1));
  }
  if (exponent <= 0) return sign + "0." + std::string(static_cast<size_t>(-exponent), '0') + digits;
  if (exponent >= n_digits) {
    return sign + digits + std::string(static_cast<size_t>(exponent - n_digits), '0') + ".0";
  }
  return sign + digits.substr(0, static_cast<size_t>(exponent)) + "." +
         digits.substr(static_cast<size_t>(exponent));
}

std::string integer_text(const Value& integer) {
  return integer.is_big() ? std::to_string(integer.big_integer()) : std::to_string(integer.integer());
}

void append_text(Heap& heap, const Value& value, TextBuilder& out) {
  if (value.is_text()) {
    out.add(value.text());
  } else if (!value.is_undefined()) {
    Repr(heap, out).append(value);
  }
}

Text to_text(Heap& heap, const Value& value) {
  if (value.is_text()) return value.text().markup() ? with_markup(heap, value.text(), false) : value.text();
  TextBuilder out(heap);
  append_text(heap, value, out);
  return out.take();
}

Text to_repr(Heap& heap, const Value& value) {
  TextBuilder out(heap);
  Repr(heap, out).append(value);
  return out.take();
}

Text escape(Heap& heap, const Value& value) {
  const Text text = soft_text(heap, value);
  if (text.markup()) return text;
  TextBuilder out(heap);
  size_t done = 0;
  const std::string_view bytes = text.view();
  for (size_t at = bytes.find_first_of("&<>'\""); at != std::string_view::npos;
       at = bytes.find_first_of("&<>'\"", at + 1)) {
    std::string_view entity;
    switch (bytes[at]) {
      case '&':
        entity = "&amp;";
        break;
      case '<':
        entity = "&lt;";
        break;
      case '>':
        entity = "&gt;";
        break;
      case '\'':
        entity = "&#39;";
        break;
      default:
        entity = "&#34;";
    }
    out.add(text, done, at).become(text, at, entity);
    done = at + 1;
  }
  return out.add(text, done, bytes.size()).take(/*markup=*/true);
}

}  // namespace odmoe::jinja
