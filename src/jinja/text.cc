#include "jinja/text.h"

#include <algorithm>
#include <iterator>

#include "base/utf8.h"

namespace odmoe::jinja {
namespace {

size_t count_chars(std::string_view text) {
  size_t n = 0;
  for (size_t at = 0; at < text.size(); at += char_size(text, at)) ++n;
  return n;
}

}  // namespace

size_t char_size(std::string_view text, size_t place) {
  if (static_cast<unsigned char>(text[place]) < 0x80) return 1;
  return read_utf8(text.substr(place)).length;
}

size_t previous_place(std::string_view text, size_t place) {
  size_t at = place - 1;
  const auto continues = [&](size_t byte) {
    return (static_cast<unsigned char>(text[byte]) & 0xC0U) == 0x80;
  };
  while (at > 0 && place - at < 4 && continues(at)) --at;
  // Bytes that are no UTF-8 are characters of their own.
  while (at + char_size(text, at) < place) at += char_size(text, at);
  return at;
}

Text Text::own(std::string_view bytes) {
  if (bytes.empty()) return {};
  auto rep = std::make_shared<Rep>();
  rep->bytes = bytes;
  rep->n_chars = count_chars(bytes);
  return Text(std::move(rep));
}

const std::vector<Span>& Text::said() const {
  static const std::vector<Span> kNothing;
  return rep_ ? rep_->said : kNothing;
}

bool Text::said_at(size_t place) const {
  const auto& spans = said();
  const auto found = std::ranges::partition_point(spans, [&](const Span& span) { return span.end <= place; });
  return found != spans.end() && found->begin <= place;
}

size_t Text::place(size_t index) const {
  if (is_ascii()) return std::min(index, size());
  if (index >= n_chars()) return size();
  size_t at = 0;
  for (; index > 0; --index) at += char_size(view(), at);
  return at;
}

size_t Text::index(size_t place) const {
  if (is_ascii()) return place;
  return count_chars(view().substr(0, place));
}

void TextBuilder::grow(size_t bytes) {
  Heap& heap = *rep_->heap;
  heap.copy(bytes);
  heap.take(bytes);
  rep_->counted_bytes += bytes;
}

TextBuilder& TextBuilder::add(std::string_view bytes, bool said) {
  if (bytes.empty()) return *this;
  auto& spans = rep_->said;
  const bool continues = said && !spans.empty() && spans.back().end == size();
  grow(bytes.size() + (said && !continues ? sizeof(Span) : 0));
  const size_t begin = size();
  rep_->bytes += bytes;
  if (continues) {
    spans.back().end = size();
  } else if (said) {
    spans.push_back({.begin = begin, .end = size()});
  }
  return *this;
}

TextBuilder& TextBuilder::add(const Text& text, size_t begin, size_t end) {
  const auto& spans = text.said();
  auto span = std::ranges::partition_point(spans, [&](const Span& s) { return s.end <= begin; });
  while (begin < end) {
    if (span == spans.end() || span->begin >= end) {
      return own(text.view().substr(begin, end - begin));
    }
    if (span->begin > begin) {
      own(text.view().substr(begin, span->begin - begin));
      begin = span->begin;
    }
    const size_t until = std::min(span->end, end);
    add(text.view().substr(begin, until - begin), /*said=*/true);
    begin = until;
    ++span;
  }
  return *this;
}

Text TextBuilder::take(bool markup) {
  if (rep_->bytes.empty() && !markup) return {};
  rep_->n_chars = count_chars(rep_->bytes);
  rep_->markup = markup;
  grow(sizeof(Text::Rep));
  return Text(std::shared_ptr<const Text::Rep>(std::move(rep_)));
}

Text part(Heap& heap, const Text& text, size_t begin, size_t end) {
  if (begin == 0 && end == text.size()) return text;
  return TextBuilder(heap).add(text, begin, end).take(text.markup());
}

Text with_markup(Heap& heap, const Text& text, bool markup) {
  return text.markup() == markup ? text : TextBuilder(heap).add(text).take(markup);
}

}  // namespace odmoe::jinja
