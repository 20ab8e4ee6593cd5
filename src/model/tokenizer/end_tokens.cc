#include "model/tokenizer/end_tokens.h"

#include <algorithm>

namespace odmoe {
namespace {

// The texts by which llama.cpp knows them, so that both stop at the same place.
constexpr auto kEndTexts = std::to_array<std::string_view>({
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // Fill-in-the-middle: padding, and the beginning of another repository or file.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
    // Not among llama.cpp's: Llama 4's generation_config.json names both, its file one of them.
    "<|eot|>",
    "<|eom|>",
});

// Where text to fill in goes; they end nothing.
constexpr auto kFillTexts = std::to_array<std::string_view>({
    "<|fim_prefix|>",  "<fim-prefix>", "<fim_prefix>",    "<｜fim▁begin｜>", "<PRE>",
    "<|code_prefix|>", "<|prefix|>",   "<|fim_suffix|>",  "<fim-suffix>",    "<fim_suffix>",
    "<｜fim▁hole｜>",  "<SUF>",        "<|code_suffix|>", "<|suffix|>",      "<|fim_middle|>",
    "<fim-middle>",    "<fim_middle>", "<｜fim▁end｜>",   "<MID>",           "<|code_middle|>",
    "<|middle|>",
});

}  // namespace

std::vector<Token> find_end_tokens(const Vocabulary& vocabulary, std::span<const Token> named) {
  std::vector<Token> ends;
  for (const Token token : named) {
    if (token >= 0) ends.push_back(token);
  }
  const auto find = [&](std::string_view text) { return vocabulary.find(text); };
  // In the harmony format <|end|> only separates messages: <|return|> and <|call|> end.
  const bool harmony = find("<|end|>") >= 0 && ((find("<|return|>") >= 0 && find("<|call|>") >= 0) ||
                                                (find("<|calls|>") >= 0 && find("<|flush|>") >= 0));
  // Gemma 4 has tags of HTML among its tokens.
  const bool tags = find("<|tool_response>") >= 0;
  for (const std::string_view text : kEndTexts) {
    const Token token = find(text);
    if (token < 0 || (harmony && text == "<|end|>") || (tags && text == "</s>")) continue;
    ends.push_back(token);
  }
  std::ranges::sort(ends);
  const auto repeated = std::ranges::unique(ends);
  ends.erase(repeated.begin(), repeated.end());
  return ends;
}

std::vector<Token> find_fill_tokens(const Vocabulary& vocabulary) {
  std::vector<Token> found;
  for (const std::string_view text : kFillTexts) {
    const Token token = vocabulary.find(text);
    if (token >= 0) found.push_back(token);
  }
  return found;
}

}  // namespace odmoe
