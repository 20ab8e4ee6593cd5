// The methods of str.
#include <algorithm>
#include <functional>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/access.h"
#include "jinja/arguments.h"
#include "jinja/methods.h"
#include "jinja/show.h"
#include "jinja/str_format.h"
#include "jinja/text_search.h"
#include "jinja/unicode.h"

namespace odmoe::jinja {
namespace {

// Without arguments.
template <Casing kCasing>
Value change(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("str method", arguments, {});
  return change_casing(heap, self.text(), kCasing);
}

// What is put into safe HTML is escaped.
Text put_into(Heap& heap, const Value& self, const Text& added) {
  return self.text().markup() ? escape(heap, added) : added;
}

// [begin, end) of the arguments `start` and `end` that many methods take, as places.
struct Window {
  size_t begin, end;
  bool valid;  // false: it begins behind its end
};
Window window(const Text& text, const Bound& bound, size_t first) {
  const auto size = static_cast<int64_t>(text.n_chars());
  const auto index = [&](size_t argument, int64_t fallback) {
    if (bound.is_absent(argument)) return fallback;
    const int64_t at = as_index(bound[argument]);
    return at < 0 ? std::max<int64_t>(at + size, 0) : at;
  };
  const int64_t begin = index(first, 0), end = std::min(index(first + 1, size), size);
  if (begin > end) return {.begin = 0, .end = 0, .valid = false};
  return {.begin = text.place(static_cast<size_t>(begin)),
          .end = text.place(static_cast<size_t>(end)),
          .valid = true};
}

template <bool kLeft, bool kRight>
Value strip(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("strip", arguments, {""});
  const Text* chars = bound.is_absent(0) ? nullptr : &bound.text(0);
  return strip_text(heap, self.text(), chars, kLeft, kRight);
}

template <bool kFromRight>
Value split(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("split", arguments, {"sep", "maxsplit"});
  const int64_t most = bound.integer_or(1, -1);
  heap.copy(self.text().size());
  if (bound.is_absent(0)) {
    return make_list(heap, kFromRight ? split_at_space_from_right(heap, self.text(), most)
                                      : split_at_space(heap, self.text(), most));
  }
  const Text& separator = bound.text(0);
  if (separator.empty()) raise(FailureKind::kValue, "empty separator");
  return make_list(heap, kFromRight ? split_at_from_right(heap, self.text(), separator.view(), most)
                                    : split_at(heap, self.text(), separator.view(), most));
}

Value splitlines(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("splitlines", arguments, {"keepends"});
  return make_list(heap, split_lines(heap, self.text(), bound.truth_or(0, false)));
}

template <bool kFromRight>
Value partition(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("partition", arguments, {""}, 1);
  const Text &text = self.text(), &separator = bound.text(0);
  if (separator.empty()) raise(FailureKind::kValue, "empty separator");
  const size_t at = kFromRight ? text.view().rfind(separator.view()) : text.view().find(separator.view());
  if (at == std::string_view::npos) {
    const Text nothing = with_markup(heap, Text(), text.markup());
    if (kFromRight) return make_tuple(heap, {nothing, nothing, self});
    return make_tuple(heap, {self, nothing, nothing});
  }
  return make_tuple(heap, {part(heap, text, 0, at), part(heap, text, at, at + separator.size()),
                           part(heap, text, at + separator.size())});
}

template <bool kAtEnd>
Value has_affix(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound(kAtEnd ? "endswith" : "startswith", arguments, {"", "", ""}, 1);
  const Window in = window(self.text(), bound, 1);
  const std::string_view text = self.view().substr(in.begin, in.end - in.begin);
  const auto fits = [&](const Value& affix) {
    if (affix.undefined() != nullptr || !affix.is_text()) {
      raise(FailureKind::kType, "{} first arg must be str or a tuple of str, not {}",
            kAtEnd ? "endswith" : "startswith", type_name(affix));
    }
    return in.valid && (kAtEnd ? text.ends_with(affix.view()) : text.starts_with(affix.view()));
  };
  if (const List* list = bound[0].list(); list != nullptr && list->tuple) {
    heap.work(list->items.size());
    return std::ranges::any_of(list->items, fits);
  }
  return fits(bound[0]);
}

template <bool kAtEnd>
Value remove_affix(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("removeprefix", arguments, {""}, 1);
  const Text& text = self.text();
  const std::string_view affix = bound.text(0).view();
  if (kAtEnd) {
    return text.view().ends_with(affix) ? part(heap, text, 0, text.size() - affix.size()) : text;
  }
  return text.view().starts_with(affix) ? part(heap, text, affix.size()) : text;
}

Value replace(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"", "", "count"}, 2);
  const Text to = put_into(heap, self, bound.text(1));
  return replace_text(heap, self.text(), bound.text(0).view(), to, bound.integer_or(2, -1));
}

// The character index, or -1.
template <bool kFromRight>
int64_t search(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("find", arguments, {"", "", ""}, 1);
  const Window in = window(self.text(), bound, 1);
  if (!in.valid) return -1;
  heap.copy(self.text().size());
  const std::string_view text = self.view().substr(0, in.end), wanted = bound.text(0).view();
  const size_t at = kFromRight ? text.rfind(wanted) : text.find(wanted, in.begin);
  if (at == std::string_view::npos || at < in.begin) return -1;
  return static_cast<int64_t>(self.text().index(at));
}

template <bool kFromRight>
Value find(Heap& heap, const Value& self, const Arguments& arguments) {
  return search<kFromRight>(heap, self, arguments);
}

template <bool kFromRight>
Value index(Heap& heap, const Value& self, const Arguments& arguments) {
  const int64_t found = search<kFromRight>(heap, self, arguments);
  if (found < 0) raise(FailureKind::kValue, "substring not found");
  return found;
}

Value count(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("count", arguments, {"", "", ""}, 1);
  const Window in = window(self.text(), bound, 1);
  if (!in.valid) return int64_t{0};
  heap.copy(self.text().size());
  const std::string_view text = self.view().substr(0, in.end), wanted = bound.text(0).view();
  int64_t n = 0;
  if (wanted.empty()) {
    return Value::integer(self.text().index(in.end) - self.text().index(in.begin) + 1);
  }
  for (size_t at = text.find(wanted, in.begin); at != std::string_view::npos;
       at = text.find(wanted, at + wanted.size())) {
    ++n;
  }
  return n;
}

// All characters (and at least one) are such.
template <typename Predicate>
bool all_chars(std::string_view text, const Predicate& predicate) {
  for (size_t at = 0; at < text.size(); at += char_size(text, at)) {
    if (!predicate(code_point_at(text, at))) return false;
  }
  return !text.empty();
}

bool is_alphanumeric_char(uint32_t c) { return is_alphanumeric(c); }

template <Property kProperty>
Value is_all(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("str predicate", arguments, {});
  heap.copy(self.text().size());
  return all_chars(self.view(), [](uint32_t c) { return has_property(c, kProperty); });
}

Value ask_alnum(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("isalnum", arguments, {});
  heap.copy(self.text().size());
  return all_chars(self.view(), is_alphanumeric_char);
}

Value ask_printable(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("isprintable", arguments, {});
  heap.copy(self.text().size());
  return self.view().empty() ||
         all_chars(self.view(), [](uint32_t c) { return has_property(c, kPrintable); });
}

Value ask_ascii(Heap&, const Value& self, const Arguments& arguments) {
  const Bound bound("isascii", arguments, {});
  return std::ranges::all_of(self.view(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

Value ask_identifier(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("isidentifier", arguments, {});
  heap.copy(self.text().size());
  const std::string_view text = self.view();
  return all_chars(text, [](uint32_t c) { return has_property(c, kIdContinue); }) &&
         has_property(code_point_at(text, 0), kIdStart);
}

// Some character is of the case, and none of the other ones.
template <Property kWanted, Property kOther>
Value is_in_case(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("islower", arguments, {});
  heap.copy(self.text().size());
  return is_text_in_case(self.view(), kWanted, kOther);
}

Value ask_title(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("istitle", arguments, {});
  heap.copy(self.text().size());
  bool any = false, in_word = false;
  const std::string_view text = self.view();
  for (size_t at = 0; at < text.size(); at += char_size(text, at)) {
    const uint32_t c = code_point_at(text, at);
    if (has_property(c, kUpper) || has_property(c, kTitle)) {
      if (in_word) return false;
      any = in_word = true;
    } else if (has_property(c, kLower)) {
      if (!in_word) return false;
      any = true;
    } else {
      in_word = false;
    }
  }
  return any;
}

Value join(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("join", arguments, {""}, 1);
  const bool markup = self.text().markup();
  TextBuilder out(heap);
  Items items(heap, bound[0]);
  for (size_t i = 0; const auto item = items.next(); ++i) {
    if (i > 0) out.add(self.text());
    if (markup) {
      out.add(escape(heap, *item));
    } else if (item->is_text()) {
      out.add(item->text());
    } else {
      raise(FailureKind::kType, "sequence item {}: expected str instance, {} found", i, type_name(*item));
    }
  }
  return out.take(markup);
}

enum class Side { kLeft, kRight, kBoth };  // where the text stands

Value pad(Heap& heap, const Text& text, int64_t width, const Text& fill, Side side) {
  if (fill.n_chars() != 1) raise(FailureKind::kType, "The fill character must be exactly one character long");
  const auto size = static_cast<int64_t>(text.n_chars());
  if (width <= size) return text;
  if (std::cmp_greater(width, heap.limits().memory_bytes)) {
    raise(FailureKind::kLimit, "a text of {} characters takes too much memory", width);
  }
  const int64_t all = width - size;
  // As Python has it: of an odd number the larger part is on the left where the width is odd.
  const int64_t left = side == Side::kLeft ? 0 : side == Side::kRight ? all : all / 2 + (all & width & 1);
  TextBuilder out(heap);
  for (int64_t i = 0; i < left; ++i) out.add(fill);
  out.add(text);
  for (int64_t i = left; i < all; ++i) out.add(fill);
  return out.take(text.markup());
}

template <Side kSide>
Value justify(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("ljust", arguments, {"", ""}, 1);
  const Text fill = bound.has(1) ? put_into(heap, self, bound.text(1)) : Text::own(" ");
  return pad(heap, self.text(), as_index(bound[0]), fill, kSide);
}

Value zfill(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("zfill", arguments, {""}, 1);
  const Text& text = self.text();
  const bool sign = text.view().starts_with('-') || text.view().starts_with('+');
  const int64_t width = as_index(bound[0]) - (sign ? 1 : 0);
  Value digits = pad(heap, part(heap, text, sign ? 1 : 0), width, Text::own("0"), Side::kRight);
  if (!sign) return digits;
  return TextBuilder(heap).add(text, 0, 1).add(digits.text()).take(text.markup());
}

Value expandtabs(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("expandtabs", arguments, {"tabsize"});
  const int64_t size = std::min<int64_t>(bound.integer_or(0, 8), 1024);
  const Text& text = self.text();
  const std::string_view bytes = text.view();
  TextBuilder out(heap);
  int64_t column = 0;
  for (size_t at = 0; at < bytes.size(); at += char_size(bytes, at)) {
    if (bytes[at] == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      out.become(text, at, std::string(static_cast<size_t>(spaces), ' '));
      column += spaces;
      continue;
    }
    out.add(text, at, at + char_size(bytes, at));
    column = bytes[at] == '\n' || bytes[at] == '\r' ? 0 : column + 1;
  }
  return out.take(text.markup());
}

// With a dict of code points, as str.maketrans() would make one: to text, a code point or None.
Value translate(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("translate", arguments, {""}, 1);
  const Text& text = self.text();
  const std::string_view bytes = text.view();
  TextBuilder out(heap);
  for (size_t at = 0; at < bytes.size(); at += char_size(bytes, at)) {
    const Value to = get_item(heap, bound[0], Value(int64_t{code_point_at(bytes, at)}));
    if (to.is_undefined()) {
      out.add(text, at, at + char_size(bytes, at));
    } else if (to.is_text()) {
      out.add(to.text());
    } else if (!to.is_none()) {
      raise(FailureKind::kType, "character mapping must return None or str");
    }
  }
  return out.take(text.markup());
}

Value format(Heap& heap, const Value& self, const Arguments& arguments) {
  return str_format(heap, self.text(), arguments);
}

Value format_map(Heap& heap, const Value& self, const Arguments& arguments) {
  const Bound bound("format_map", arguments, {""}, 1);
  Arguments named;
  const Dict* dict = bound[0].dict();
  if (dict == nullptr) raise(FailureKind::kType, "format_map() takes a dict, not '{}'", type_name(bound[0]));
  for (const auto& [key, value] : dict->entries) {
    if (key.is_text()) named.named.emplace_back(key.text(), value);
  }
  return str_format(heap, self.text(), named);
}

constexpr Method kMethods[] = {
    {"capitalize", change<Casing::kCapitalize>},
    {"casefold", change<Casing::kFold>},
    {"center", justify<Side::kBoth>},
    {"count", count},
    {"endswith", has_affix<true>},
    {"expandtabs", expandtabs},
    {"find", find<false>},
    {"format", format},
    {"format_map", format_map},
    {"index", index<false>},
    {"isalnum", ask_alnum},
    {"isalpha", is_all<kAlpha>},
    {"isascii", ask_ascii},
    {"isdecimal", is_all<kDecimal>},
    {"isdigit", is_all<kDigit>},
    {"isidentifier", ask_identifier},
    {"islower", is_in_case<kLower, kUpper>},
    {"isnumeric", is_all<kNumeric>},
    {"isprintable", ask_printable},
    {"isspace", is_all<kSpace>},
    {"istitle", ask_title},
    {"isupper", is_in_case<kUpper, kLower>},
    {"join", join},
    {"ljust", justify<Side::kLeft>},
    {"lower", change<Casing::kLower>},
    {"lstrip", strip<true, false>},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"replace", replace},
    {"rfind", find<true>},
    {"rindex", index<true>},
    {"rjust", justify<Side::kRight>},
    {"rpartition", partition<true>},
    {"rsplit", split<true>},
    {"rstrip", strip<false, true>},
    {"split", split<false>},
    {"splitlines", splitlines},
    {"startswith", has_affix<false>},
    {"strip", strip<true, true>},
    {"swapcase", change<Casing::kSwap>},
    {"title", change<Casing::kTitle>},
    {"translate", translate},
    {"upper", change<Casing::kUpper>},
    {"zfill", zfill},
};

}  // namespace

MethodFunction find_text_method(std::string_view name) {
  const auto* found = std::ranges::find(kMethods, name, &Method::name);
  return found == std::end(kMethods) ? nullptr : found->function;
}

}  // namespace odmoe::jinja
