// Chat templates: how a conversation becomes the text that a model was trained on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/chat.h"
#include "odmoe/result.h"

namespace odmoe {

// A conversation as text.
struct ChatText {
  // [begin, end) in bytes.
  struct Range {
    size_t begin = 0, end = 0;
    bool operator==(const Range&) const = default;
  };
  std::string text;
  // What the conversation wrote, not the template; in order, apart.  It never becomes a control token,
  // whatever it spells.
  std::vector<Range> said;
};

// What rendering may use.
struct ChatTemplateLimits {
  size_t memory_bytes = size_t{256} << 20;  // of the values that the template computes with
  // Asked some times in a millisecond; false: end.  Empty: to the end.
  std::function<bool()> goes_on = {};  // NOLINT(readability-redundant-member-init)
};

// Immutable, so thread-safe.
class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // In Jinja.
  virtual std::string_view source() const = 0;

  // As Hugging Face transformers renders it.  Where a template has no words for something of the conversation
  // that can be said otherwise, it is (docs/chat-templates.md).
  // kUnsupported: the template raises an error, or has no words and there is no other way, or the limit
  // of memory; kInterrupted: it was ended; kUsage: variables that a template may not be given.
  virtual Result<ChatText> render(const Conversation& conversation,
                                  const ChatTemplateLimits& limits = {}) const = 0;
};

// Which template, if not the model's own.
// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct ChatTemplateChoice {
  std::string source = {};  // in Jinja; empty: the model's own
  std::string kwargs = {};  // a JSON object: variables for every conversation; empty: none
  // What templates are told of the time, in seconds of Unix; nothing: when they are rendered.
  std::optional<int64_t> now = {};
};
// NOLINTEND(readability-redundant-member-init)

}  // namespace odmoe
