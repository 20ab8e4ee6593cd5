// A conversation in the shape that a chat template takes.
#pragma once

#include "jinja/chat_prompt.h"
#include "model/tokenizer/chat_words.h"
#include "model/tokenizer/raw_arguments.h"
#include "odmoe/chat.h"
#include "odmoe/result.h"

namespace odmoe {

// Messages, tools and variables, for a template with these words; `kwargs` are beneath the conversation's
// own. What the words lack is left as it is, but for the system's messages, which go before the next of the
// user. Arguments that are no JSON object are signs of `raw`, or, where that is null, {"arguments": TEXT}.
// kUsage: variables that are no JSON object.
Result<jinja::ChatInput> chat_input_of(const Conversation& conversation, const ChatWords& words,
                                       const nlohmann::ordered_json& kwargs, RawArguments* raw);

}  // namespace odmoe
