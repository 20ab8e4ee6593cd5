#include "jinja/text_search.h"

#include <algorithm>
#include <limits>

#include "jinja/unicode.h"

namespace odmoe::jinja {
namespace {

size_t bound(int64_t most) {
  return most < 0 ? std::numeric_limits<size_t>::max() : static_cast<size_t>(most);
}

bool has_char(std::string_view chars, std::string_view one) {
  for (size_t at = 0; at < chars.size(); at += char_size(chars, at)) {
    if (chars.substr(at, char_size(chars, at)) == one) return true;
  }
  return false;
}

// Of one character; the place of a sigma decides what becomes of it.
std::string lower_char(std::string_view bytes, size_t at) {
  return is_final_sigma(bytes, at) ? "ς" : change_case(code_point_at(bytes, at), Case::kLower);
}

std::string swapped_char(std::string_view bytes, size_t at) {
  const uint32_t c = code_point_at(bytes, at);
  if (has_property(c, kUpper)) return lower_char(bytes, at);
  return has_property(c, kLower) ? change_case(c, Case::kUpper)
                                 : std::string(bytes.substr(at, char_size(bytes, at)));
}

}  // namespace

Text replace_text(Heap& heap, const Text& text, std::string_view from, const Text& to, int64_t most) {
  const std::string_view bytes = text.view();
  heap.copy(bytes.size());
  TextBuilder out(heap);
  size_t done = 0, left = bound(most);
  if (from.empty()) {  // before each character and at the end
    for (size_t at = 0; left > 0; --left) {
      out.add(to);
      if (at == bytes.size()) break;
      const size_t size = char_size(bytes, at);
      out.add(text, at, at + size);
      at += size;
      done = at;
    }
    return out.add(text, done, bytes.size()).take(text.markup());
  }
  for (size_t at = bytes.find(from); at != std::string_view::npos && left > 0; at = bytes.find(from, done)) {
    out.add(text, done, at).add(to);
    done = at + from.size();
    --left;
  }
  if (done == 0) return text;
  return out.add(text, done, bytes.size()).take(text.markup());
}

std::vector<Value> split_at_space(Heap& heap, const Text& text, int64_t most) {
  const std::string_view bytes = text.view();
  std::vector<Value> parts;
  size_t at = skip_space(bytes, 0), left = bound(most);
  while (at < bytes.size()) {
    size_t end = bytes.size();
    if (left-- > 0) {
      end = at;
      while (end < bytes.size() && !is_space(code_point_at(bytes, end))) end += char_size(bytes, end);
    }
    parts.emplace_back(part(heap, text, at, end));
    at = skip_space(bytes, end);
  }
  return parts;
}

std::vector<Value> split_at(Heap& heap, const Text& text, std::string_view separator, int64_t most) {
  const std::string_view bytes = text.view();
  std::vector<Value> parts;
  size_t done = 0, left = bound(most);
  for (size_t at = bytes.find(separator); at != std::string_view::npos && left > 0;
       at = bytes.find(separator, done)) {
    parts.emplace_back(part(heap, text, done, at));
    done = at + separator.size();
    --left;
  }
  parts.emplace_back(part(heap, text, done));
  return parts;
}

std::vector<Value> split_at_space_from_right(Heap& heap, const Text& text, int64_t most) {
  const std::string_view bytes = text.view();
  std::vector<Value> parts;
  size_t at = skip_space_back(bytes, bytes.size()), left = bound(most);
  while (at > 0) {
    size_t begin = 0;
    if (left-- > 0) {
      begin = at;
      while (begin > 0) {
        const size_t before = previous_place(bytes, begin);
        if (is_space(code_point_at(bytes, before))) break;
        begin = before;
      }
    }
    parts.emplace_back(part(heap, text, begin, at));
    at = skip_space_back(bytes, begin);
  }
  std::ranges::reverse(parts);
  return parts;
}

std::vector<Value> split_at_from_right(Heap& heap, const Text& text, std::string_view separator,
                                       int64_t most) {
  const std::string_view bytes = text.view();
  std::vector<Value> parts;
  size_t end = bytes.size(), left = bound(most);
  while (left-- > 0 && end >= separator.size()) {
    const size_t at = bytes.rfind(separator, end - separator.size());
    if (at == std::string_view::npos) break;
    parts.emplace_back(part(heap, text, at + separator.size(), end));
    end = at;
  }
  parts.emplace_back(part(heap, text, 0, end));
  std::ranges::reverse(parts);
  return parts;
}

std::vector<Value> split_lines(Heap& heap, const Text& text, bool keep_ends) {
  const std::string_view bytes = text.view();
  std::vector<Value> lines;
  for (size_t begin = 0; begin < bytes.size();) {
    size_t end = begin;
    while (end < bytes.size() && !has_property(code_point_at(bytes, end), kLineEnd))
      end += char_size(bytes, end);
    size_t next = end;
    if (end < bytes.size()) next += bytes.substr(end).starts_with("\r\n") ? 2 : char_size(bytes, end);
    lines.emplace_back(part(heap, text, begin, keep_ends ? next : end));
    begin = next;
  }
  return lines;
}

Text strip_text(Heap& heap, const Text& text, const Text* chars, bool left, bool right) {
  const std::string_view bytes = text.view();
  heap.copy(bytes.size());
  size_t begin = 0, end = bytes.size();
  if (chars == nullptr) {
    if (left) begin = skip_space(bytes, 0);
    if (right) end = std::max(begin, skip_space_back(bytes, end));
    return part(heap, text, begin, end);
  }
  while (left && begin < end && has_char(chars->view(), bytes.substr(begin, char_size(bytes, begin)))) {
    begin += char_size(bytes, begin);
    heap.copy(chars->size());
  }
  while (right && end > begin) {
    const size_t before = previous_place(bytes, end);
    if (!has_char(chars->view(), bytes.substr(before, end - before))) break;
    end = before;
    heap.copy(chars->size());
  }
  return part(heap, text, begin, end);
}

Text change_casing(Heap& heap, const Text& text, Casing casing) {
  const std::string_view bytes = text.view();
  TextBuilder out(heap);
  bool in_word = false;
  for (size_t at = 0; at < bytes.size(); at += char_size(bytes, at)) {
    const uint32_t c = code_point_at(bytes, at);
    std::string becomes;
    switch (casing) {
      case Casing::kUpper:
        becomes = change_case(c, Case::kUpper);
        break;
      case Casing::kLower:
        becomes = lower_char(bytes, at);
        break;
      case Casing::kFold:
        becomes = change_case(c, Case::kFold);
        break;
      case Casing::kSwap:
        becomes = swapped_char(bytes, at);
        break;
      case Casing::kCapitalize:
        becomes = at == 0 ? change_case(c, Case::kTitle) : lower_char(bytes, at);
        break;
      case Casing::kTitle:
        becomes = in_word ? lower_char(bytes, at) : change_case(c, Case::kTitle);
        in_word = is_cased(c);
        break;
    }
    // Bytes that are no UTF-8 stay as they are.
    const std::string_view before = bytes.substr(at, char_size(bytes, at));
    out.become(text, at, c == 0xFFFD ? before : std::string_view(becomes));
  }
  return out.take(text.markup());
}

}  // namespace odmoe::jinja
