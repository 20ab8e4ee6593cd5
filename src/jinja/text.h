// Text that knows, byte by byte, who wrote it: the template, or whoever takes part in the conversation.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/heap.h"

namespace odmoe::jinja {

// [begin, end) in bytes.
struct Span {
  size_t begin = 0, end = 0;
  bool operator==(const Span&) const = default;
};

// Immutable, UTF-8, cheap to copy.  A place is a byte's number and always where a character begins; an index
// counts characters, as Python does.
class Text {
 public:
  Text() = default;
  // The template's own words.  No heap counts them: for what is as long as the template itself.
  static Text own(std::string_view bytes);

  std::string_view view() const { return rep_ ? std::string_view(rep_->bytes) : std::string_view(); }
  size_t size() const { return view().size(); }
  bool empty() const { return view().empty(); }
  // Safe HTML, as jinja's filter `safe` marks it: what is added to it is escaped.
  bool markup() const { return rep_ && rep_->markup; }

  // What the conversation wrote: in order, apart.
  const std::vector<Span>& said() const;
  bool all_own() const { return said().empty(); }
  bool said_at(size_t place) const;
  bool is_same_object(const Text& other) const { return rep_ == other.rep_; }

  size_t n_chars() const { return rep_ ? rep_->n_chars : 0; }
  bool is_ascii() const { return n_chars() == size(); }
  // The place of a character; size() for index n_chars().
  size_t place(size_t index) const;
  size_t index(size_t place) const;

 private:
  friend class TextBuilder;
  struct Rep {
    std::string bytes;
    std::vector<Span> said;
    size_t n_chars = 0;
    bool markup = false;
    Heap* heap = nullptr;
    size_t counted_bytes = 0;
    Rep() = default;
    Rep(const Rep&) = delete;
    Rep& operator=(const Rep&) = delete;
    ~Rep() {
      if (heap != nullptr) heap->give_back(counted_bytes);
    }
  };
  explicit Text(std::shared_ptr<const Rep> rep) : rep_(std::move(rep)) {}

  std::shared_ptr<const Rep> rep_;  // null: empty and the template's own
};

// One owner.
class TextBuilder {
 public:
  explicit TextBuilder(Heap& heap) : rep_(std::make_shared<Text::Rep>()) { rep_->heap = &heap; }

  TextBuilder& own(std::string_view bytes) { return add(bytes, /*said=*/false); }
  TextBuilder& add(std::string_view bytes, bool said);
  TextBuilder& add(const Text& text) { return add(text, 0, text.size()); }
  TextBuilder& add(const Text& text, size_t begin, size_t end);  // places
  // What became of the character at `place`: written by who wrote that.
  TextBuilder& become(const Text& text, size_t place, std::string_view bytes) {
    return add(bytes, text.said_at(place));
  }

  size_t size() const { return rep_->bytes.size(); }
  std::string_view view() const { return rep_->bytes; }
  // Ends it.
  Text take(bool markup = false);

 private:
  void grow(size_t bytes);

  std::shared_ptr<Text::Rep> rep_;
};

// The part between two places.
Text part(Heap& heap, const Text& text, size_t begin, size_t end);
inline Text part(Heap& heap, const Text& text, size_t begin) { return part(heap, text, begin, text.size()); }
// The same text, safe HTML or no longer.
Text with_markup(Heap& heap, const Text& text, bool markup);

// Bytes of the character that begins at `place`.
size_t char_size(std::string_view text, size_t place);
// Where the character before `place` begins; `place` > 0.
size_t previous_place(std::string_view text, size_t place);

}  // namespace odmoe::jinja
