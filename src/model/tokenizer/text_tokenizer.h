// What every tokenizer does: cuts special tokens out, divides what is between into words, and lets the words
// be merged.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/bpe.h"
#include "model/tokenizer/special_tokens.h"
#include "model/tokenizer/splitter.h"
#include "model/tokenizer/spm.h"
#include "model/tokenizer/tokenizer.h"
#include "model/tokenizer/vocabulary.h"

namespace odmoe {

// Of a byte-pair encoding: words by a splitting rule, merged by rank.
struct BpeParts {
  Splitter splitter;
  BpeMerges merges;
  bool ignore_merges = false;   // a word that is a token as a whole is that token, whatever the merges say
  bool whole_newlines = false;  // the same of words that are newlines only
};

struct TokenizerParts {
  Vocabulary vocabulary;
  std::optional<BpeParts> bpe;    // one of these two
  std::optional<SpmScores> spm;   // SentencePiece's: no words, merged by score
  std::vector<Token> end_tokens;  // sorted
  std::vector<Token> suppressed;
  std::vector<Token> strips_white_after;  // sorted: white space after these in the text is left out
  std::string chat_template;
  Token bos = -1;
  Token eos = -1;
  bool add_bos = false;
  bool add_eos = false;
  bool add_space = false;  // before a text, and before what follows a special token; of SentencePiece
  bool to_nfc = false;     // Unicode's composed form comes first
};

// Immutable, so thread-safe.
class TextTokenizer final : public Tokenizer {
 public:
  explicit TextTokenizer(TokenizerParts parts);

  using Tokenizer::encode;
  Result<std::vector<Token>> encode(std::string_view text, EncodeOptions options,
                                    const EncodeLimits& limits) const override;
  std::string token_bytes(Token token, bool special) const override;
  int32_t n_vocab() const override { return parts_.vocabulary.size(); }
  Token bos() const override { return parts_.bos; }
  Token eos() const override { return parts_.eos; }
  bool is_end(Token token) const override;
  std::span<const Token> suppressed() const override { return parts_.suppressed; }
  bool add_bos() const override { return parts_.add_bos; }
  bool add_space() const override { return parts_.add_space; }
  Token find(std::string_view text) const override;
  std::string_view chat_template() const override { return parts_.chat_template; }

 private:
  struct Work;

  SpecialTokens::Match find_special(std::string_view text, size_t from, const EncodeOptions& options) const;
  void encode_between(std::string_view text, Work& work) const;
  bool encode_word(std::string_view word, Work& work) const;
  bool encode_parts(std::string_view word, Work& work) const;
  bool too_long(std::string_view word, Work& work) const;
  std::string without_tokenless(std::string_view word) const;
  bool merge(std::string_view word, Work& work) const;

  TokenizerParts parts_;
  SpecialTokens special_;     // refers to parts_
  Joints joints_;             // of vocabularies that write text as it is
  std::string tokenless_;     // bytes without a token
  size_t longest_token_ = 1;  // in bytes
};

}  // namespace odmoe
