// Which tokens end a generation.  Files name one or two of them; the others are known by their text.
#pragma once

#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "model/tokenizer/vocabulary.h"

namespace odmoe {

// Metadata keys, beside EOS, whose token ends a generation.
inline constexpr auto kEndTokenKeys = std::to_array<std::string_view>({
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
});

// Sorted.  `named` are the tokens that the file itself names; -1 among them is skipped.
std::vector<Token> find_end_tokens(const Vocabulary& vocabulary, std::span<const Token> named);

// Those by which a text is filled in, known by their texts too: they are no text of anybody's.
std::vector<Token> find_fill_tokens(const Vocabulary& vocabulary);

}  // namespace odmoe
