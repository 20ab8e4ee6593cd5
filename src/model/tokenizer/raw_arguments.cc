#include "model/tokenizer/raw_arguments.h"

#include <algorithm>
#include <charconv>
#include <cstdint>

namespace odmoe {
namespace {

// Of Unicode's private use area, which templates have no use for and JSON does not escape.
std::string private_character(uint32_t number) {
  const uint32_t code = 0xE000 + number;
  return {static_cast<char>(0xE0 | (code >> 12U)), static_cast<char>(0x80 | ((code >> 6U) & 0x3FU)),
          static_cast<char>(0x80 | (code & 0x3FU))};
}

bool says(const Conversation& conversation, std::string_view what) {
  const auto in = [&](std::string_view text) { return text.contains(what); };
  if (in(conversation.kwargs) || std::ranges::any_of(conversation.tools, in)) return true;
  return std::ranges::any_of(conversation.turns, [&](const ChatTurn& turn) {
    return in(turn.content) || in(turn.name) || (turn.reasoning && in(*turn.reasoning)) ||
           std::ranges::any_of(turn.tool_calls,
                               [&](const ChatToolCall& call) { return in(call.arguments) || in(call.name); });
  });
}

// Copies parts of a text with who wrote them.
class Copier {
 public:
  explicit Copier(const ChatText& from) : from_(from) {}

  void copy(size_t begin, size_t end) {
    for (const ChatText::Range& said : from_.said) {
      const size_t first = std::max(said.begin, begin), last = std::min(said.end, end);
      if (first < last) add_said(out_.text.size() + first - begin, out_.text.size() + last - begin);
    }
    out_.text.append(from_.text, begin, end - begin);
  }
  void say(std::string_view text) {
    if (!text.empty()) add_said(out_.text.size(), out_.text.size() + text.size());
    out_.text += text;
  }
  ChatText take() { return std::move(out_); }

 private:
  void add_said(size_t begin, size_t end) {
    if (!out_.said.empty() && out_.said.back().end == begin) {
      out_.said.back().end = end;
    } else {
      out_.said.push_back({.begin = begin, .end = end});
    }
  }

  const ChatText& from_;
  ChatText out_;
};

}  // namespace

RawArguments::RawArguments(const Conversation& conversation) {
  uint32_t number = 0;
  do border_ = private_character(number++);
  while (says(conversation, border_));
}

std::string RawArguments::sign_of(std::string_view arguments) {
  texts_.emplace_back(arguments);
  return border_ + std::to_string(texts_.size() - 1) + border_;
}

ChatText RawArguments::put_back(const ChatText& text) const {
  Copier out(text);
  size_t done = 0;
  for (size_t at = text.text.find(border_); at != std::string::npos; at = text.text.find(border_, done)) {
    const size_t end = text.text.find(border_, at + border_.size());
    if (end == std::string::npos) break;
    const char* digits = text.text.data() + at + border_.size();
    size_t index = texts_.size();
    (void)std::from_chars(digits, text.text.data() + end, index);
    size_t from = at, to = end + border_.size();
    if (from > done && text.text[from - 1] == '"' && to < text.text.size() && text.text[to] == '"') {
      --from;
      ++to;
    }
    out.copy(done, from);
    if (index < texts_.size()) out.say(texts_[index]);
    done = to;
  }
  out.copy(done, text.text.size());
  return out.take();
}

}  // namespace odmoe
