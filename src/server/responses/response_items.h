// The output of a response: items of what was generated, in order.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "odmoe/engine.h"
#include "server/answer_event.h"
#include "server/body.h"
#include "server/json_guard.h"

namespace odmoe::server {

// One of them, as a view of an answer.
struct ResponseItem {
  enum class Kind { kReasoning, kMessage, kCall };
  Kind kind = Kind::kMessage;
  size_t index = 0;       // in the output
  std::string_view text;  // of a thought or message
  std::span<const GeneratedToken> tokens;
  const ChatToolCall* call = nullptr;
  bool complete = true;  // false: the answer was cut off in it
};
// Until `take` says false, which is then what comes back.
bool for_each_item(const AnswerChoice& choice, const std::function<bool(const ResponseItem&)>& take);

// How items are written.
struct ResponseItemStyle {
  const Engine* engine = nullptr;  // null: no tokens are shown
  std::string_view response;       // id of the response, without its prefix
  bool logprobs = false;
  bool summarize = false, encrypted = false;  // thoughts (ResponseSettings)
};

std::string item_id(const ResponseItemStyle& style, ResponseItem::Kind kind, size_t index);
// The part of a thought or message that has its text; in pieces, for tokens take much as text.
bool write_part(const ResponseItemStyle& style, const ResponseItem& item, const BodySink& sink);
bool write_logprobs(const ResponseItemStyle& style, std::span<const GeneratedToken> tokens,
                    const BodySink& sink);
// `status`: "in_progress": nothing of what it says is there yet.
bool write_item(const ResponseItemStyle& style, const ResponseItem& item, std::string_view status,
                const BodySink& sink);
std::string_view status_of(const ResponseItem& item);

}  // namespace odmoe::server
