#include "model/tokenizer/model_tokens.h"

#include <string_view>

namespace odmoe {

jinja::SpecialTokens special_tokens_of(const Tokenizer& tokenizer) {
  jinja::SpecialTokens tokens;
  const auto add = [&](std::string_view name, Token token) {
    if (token >= 0) tokens.emplace_back(name, tokenizer.token_bytes(token, /*special=*/true));
  };
  add("bos_token", tokenizer.bos());
  add("eos_token", tokenizer.eos());
  return tokens;
}

Result<std::vector<Token>> encode_chat_text(const Tokenizer& tokenizer, const ChatText& text,
                                            const EncodeLimits& limits) {
  const Token bos = tokenizer.bos();
  const bool own_begin = text.said.empty() || text.said.front().begin > 0;
  const bool has_bos =
      bos >= 0 && own_begin && text.text.starts_with(tokenizer.token_bytes(bos, /*special=*/true));
  return tokenizer.encode(text.text, {.add_special = !has_bos, .parse_special = true, .said = text.said},
                          limits);
}

}  // namespace odmoe
