// Arguments of a call that are no JSON object, as a model may write them: they stand in the text as they are.
//
// A template would quote them as JSON, or fail.  It gets a sign instead, in whose place they are put once the
// text is there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "odmoe/chat.h"
#include "odmoe/chat_template.h"

namespace odmoe {

// One owner.
class RawArguments {
 public:
  // The signs are in no text of the conversation.
  explicit RawArguments(const Conversation& conversation);

  std::string sign_of(std::string_view arguments);
  bool empty() const { return texts_.empty(); }
  // With the arguments in the place of their signs, and of quotation marks around these.
  ChatText put_back(const ChatText& text) const;

 private:
  std::string border_;  // SIGN is border, number, border
  std::vector<std::string> texts_;
};

}  // namespace odmoe
