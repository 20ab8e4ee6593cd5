// Filters that give text.
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/filter_functions.h"
#include "jinja/json.h"
#include "jinja/methods.h"
#include "jinja/percent_format.h"
#include "jinja/show.h"
#include "jinja/text_search.h"
#include "jinja/unicode.h"
#include "odmoe/format.h"

namespace odmoe::jinja {
namespace {

Value recased(Heap& heap, const Value& value, const Arguments& arguments, std::string_view name,
              Casing casing) {
  const Bound bound(name, arguments, {});
  return change_casing(heap, soft_text(heap, value), casing);
}

// Of the words that the filter `title` begins with a capital, what stands between them.
bool is_between_words(uint32_t c) {
  return is_space(c) || (c < 0x80 && std::string_view("-({[<").contains(static_cast<char>(c)));
}

bool is_url_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("_.-~").contains(c);
}

void append_url(TextBuilder& out, const Text& text, bool in_query) {
  const std::string_view bytes = text.view();
  for (size_t at = 0; at < bytes.size(); ++at) {
    const char c = bytes[at];
    if (is_url_char(c) || (c == '/' && !in_query)) {
      out.add(text, at, at + 1);
    } else if (c == ' ' && in_query) {
      out.become(text, at, "+");
    } else {
      out.become(text, at, odmoe::format("%{:02X}", static_cast<unsigned char>(c)));
    }
  }
}

}  // namespace

Value filter_capitalize(Heap& heap, const Value& value, const Arguments& arguments) {
  return recased(heap, value, arguments, "capitalize", Casing::kCapitalize);
}
Value filter_lower(Heap& heap, const Value& value, const Arguments& arguments) {
  return recased(heap, value, arguments, "lower", Casing::kLower);
}
Value filter_upper(Heap& heap, const Value& value, const Arguments& arguments) {
  return recased(heap, value, arguments, "upper", Casing::kUpper);
}

Value filter_title(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("title", arguments, {});
  const Text text = soft_text(heap, value);
  const std::string_view bytes = text.view();
  TextBuilder out(heap);
  for (size_t begin = 0; begin < bytes.size();) {
    const bool between = is_between_words(code_point_at(bytes, begin));
    size_t end = begin;
    while (end < bytes.size() && is_between_words(code_point_at(bytes, end)) == between) {
      end += char_size(bytes, end);
    }
    const size_t second = begin + char_size(bytes, begin);
    out.add(change_casing(heap, part(heap, text, begin, second), Casing::kUpper));
    out.add(change_casing(heap, part(heap, text, second, end), Casing::kLower));
    begin = end;
  }
  return out.take();
}

Value filter_center(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("center", arguments, {"width"});
  Arguments width;
  width.positional.emplace_back(bound.integer_or(0, 80));
  return find_text_method("center")(heap, soft_text(heap, value), width);
}

Value filter_trim(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("trim", arguments, {"chars"});
  const Text* chars = bound.is_absent(0) ? nullptr : &bound.text(0);
  return strip_text(heap, soft_text(heap, value), chars, /*left=*/true, /*right=*/true);
}

Value filter_string(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("string", arguments, {});
  return soft_text(heap, value);
}

Value filter_safe(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("safe", arguments, {});
  return with_markup(heap, to_text(heap, value), /*markup=*/true);
}

Value filter_escape(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("escape", arguments, {});
  return escape(heap, value);
}

Value filter_forceescape(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("forceescape", arguments, {});
  return escape(heap, to_text(heap, value));
}

Value filter_format(Heap& heap, const Value& value, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    raise(FailureKind::kType, "can't handle positional and keyword arguments at the same time");
  }
  const Text format = soft_text(heap, value);
  if (arguments.named.empty()) {
    return percent_format(heap, format, make_tuple(heap, arguments.positional));
  }
  Dict* dict = heap.make<Dict>();
  for (const auto& [name, argument] : arguments.named) dict->set(heap, name, argument);
  return percent_format(heap, format, dict);
}

Value filter_replace(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  const Text from = to_text(heap, bound[0]);
  const int64_t most = bound.is_absent(2) ? -1 : as_index(bound[2]);
  return replace_text(heap, to_text(heap, value), from.view(), to_text(heap, bound[1]), most);
}

Value filter_indent(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("indent", arguments, {"width", "first", "blank"});
  if (value.undefined() != nullptr) value.undefined()->fail();
  if (!value.is_text()) raise(FailureKind::kType, "cannot indent '{}'", type_name(value));
  Text indention;
  if (bound.has(0) && bound[0].is_text()) {
    indention = bound[0].text();
  } else {
    const int64_t width = std::max<int64_t>(bound.integer_or(0, 4), 0);
    if (width > 10'000) raise(FailureKind::kLimit, "indents by more than 10000 spaces");
    indention = Text::own(std::string(static_cast<size_t>(width), ' '));
  }
  const bool first = bound.truth_or(1, false), blank = bound.truth_or(2, false);
  const Text& text = value.text();
  // A line end is added so that an empty last line is one.
  std::vector<Value> lines =
      split_lines(heap, TextBuilder(heap).add(text).own("\n").take(text.markup()), /*keep_ends=*/false);
  TextBuilder out(heap);
  if (first) out.add(indention);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.own("\n");
    if (i > 0 && (blank || !lines[i].text().empty())) out.add(indention);
    out.add(lines[i].text());
  }
  return out.take(text.markup());
}

Value filter_truncate(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const Text end = bound.has(2) ? bound.text(2) : Text::own("...");
  const int64_t most = bound.integer_or(0, 255), leeway = bound.is_absent(3) ? 5 : as_index(bound[3]);
  const auto end_size = static_cast<int64_t>(end.n_chars());
  if (most < end_size) raise(FailureKind::kValue, "expected length >= {}, got {}", end_size, most);
  if (leeway < 0) raise(FailureKind::kValue, "expected leeway >= 0, got {}", leeway);
  const auto size = length(value);
  if (!size) raise(FailureKind::kType, "object of type '{}' has no len()", type_name(value));
  if (std::cmp_less_equal(*size, std::min<int64_t>(most, INT32_MAX) + std::min<int64_t>(leeway, INT32_MAX))) {
    return value;
  }
  if (!value.is_text()) raise(FailureKind::kType, "object of type '{}' cannot be cut", type_name(value));
  const Text& text = value.text();
  size_t cut = text.place(static_cast<size_t>(most - end_size));
  if (!bound.truth_or(1, false)) {
    const size_t space = text.view().substr(0, cut).rfind(' ');
    if (space != std::string_view::npos) cut = space;
  }
  return TextBuilder(heap).add(text, 0, cut).add(end).take(text.markup());
}

Value filter_wordcount(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("wordcount", arguments, {});
  const Text text = soft_text(heap, value);
  int64_t n = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size(); at += char_size(text.view(), at)) {
    const uint32_t c = code_point_at(text.view(), at);
    const bool letter = c == '_' || is_alphanumeric(c);
    if (letter && !in_word) ++n;
    in_word = letter;
  }
  return n;
}

Value filter_urlencode(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("urlencode", arguments, {});
  TextBuilder out(heap);
  if (value.is_text() || !is_iterable(value)) {
    append_url(out, to_text(heap, value), /*in_query=*/false);
    return out.take();
  }
  const Value pairs =
      value.dict() == nullptr ? value : Value(heap.make<View>(value.dict(), View::Part::kItems));
  Items items(heap, pairs);
  for (bool first = true; const auto item = items.next(); first = false) {
    const std::vector<Value> pair = all_items(heap, *item);
    if (pair.size() != 2) raise(FailureKind::kValue, "pairs of key and value are wanted");
    if (!first) out.own("&");
    append_url(out, to_text(heap, pair[0]), /*in_query=*/true);
    out.own("=");
    append_url(out, to_text(heap, pair[1]), /*in_query=*/true);
  }
  return out.take();
}

Value filter_xmlattr(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("xmlattr", arguments, {"autospace"});
  const Dict* dict = value.dict();
  if (dict == nullptr) raise(FailureKind::kType, "xmlattr wants a dict, not '{}'", type_name(value));
  TextBuilder out(heap);
  for (const auto& [key, held] : dict->entries) {
    if (held.is_none() || held.is_undefined()) continue;
    const Text name = to_text(heap, key);
    if (name.view().find_first_of(" \t\n\r\f\v/>=") != std::string_view::npos) {
      raise(FailureKind::kValue, "Invalid character in attribute name: '{}'", name.view());
    }
    if (out.size() > 0 || bound.truth_or(0, true)) out.own(" ");
    out.add(escape(heap, key)).own("=\"").add(escape(heap, held)).own("\"");
  }
  return out.take();
}

// As transformers has it, which escapes nothing for HTML.
Value filter_tojson(Heap& heap, const Value& value, const Arguments& arguments) {
  const Bound bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  DumpOptions options{.ensure_ascii = bound.truth_or(0, false), .sort_keys = bound.truth_or(3, false)};
  if (!bound.is_absent(1)) options.indent = bound[1];
  if (!bound.is_absent(2)) {
    const std::vector<Value> separators = all_items(heap, bound[2]);
    if (separators.size() != 2 || !separators[0].is_text() || !separators[1].is_text()) {
      raise(FailureKind::kValue, "separators must be two texts");
    }
    options.item_separator = separators[0];
    options.key_separator = separators[1];
  }
  return dump_json(heap, value, options);
}

}  // namespace odmoe::jinja
