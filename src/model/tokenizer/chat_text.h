// Text that a template and its users wrote together: who wrote what decides which tokens it may become.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace odmoe {

// [begin, end) of a text.
struct TextRange {
  size_t begin = 0, end = 0;
};

// One owner.
class ChatText {
 public:
  // The template's own words, in which control tokens count.
  ChatText& operator+=(std::string_view markup) {
    text_ += markup;
    return *this;
  }
  // What somebody said: never a control token, whatever it spells.
  ChatText& say(std::string_view content) {
    if (content.empty()) return *this;
    if (!said_.empty() && said_.back().end == text_.size()) {
      said_.back().end += content.size();
    } else {
      said_.push_back({.begin = text_.size(), .end = text_.size() + content.size()});
    }
    text_ += content;
    return *this;
  }
  ChatText& append(const ChatText& other) {
    size_t done = 0;
    for (const TextRange& range : other.said_) {
      *this += std::string_view(other.text_).substr(done, range.begin - done);
      say(std::string_view(other.text_).substr(range.begin, range.end - range.begin));
      done = range.end;
    }
    return *this += std::string_view(other.text_).substr(done);
  }

  const std::string& text() const { return text_; }
  const std::vector<TextRange>& said() const { return said_; }  // in order, apart
  bool empty() const { return text_.empty(); }

 private:
  std::string text_;
  std::vector<TextRange> said_;
};

}  // namespace odmoe
