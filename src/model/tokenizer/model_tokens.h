// What a vocabulary and a chat template have to do with each other.
#pragma once

#include <vector>

#include "jinja/chat_prompt.h"
#include "model/tokenizer/tokenizer.h"
#include "odmoe/chat_template.h"
#include "odmoe/encode_limits.h"
#include "odmoe/result.h"

namespace odmoe {

// The tokens that templates ask for by name: bos_token and eos_token, where the vocabulary has them.
jinja::SpecialTokens special_tokens_of(const Tokenizer& tokenizer);

// A rendered conversation as tokens: with one BOS where the template writes one or the vocabulary asks for
// it.
Result<std::vector<Token>> encode_chat_text(const Tokenizer& tokenizer, const ChatText& text,
                                            const EncodeLimits& limits);

}  // namespace odmoe
