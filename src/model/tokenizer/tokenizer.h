// Text to tokens and back, from a GGUF's own vocabulary: byte-level BPE, SentencePiece's, and Gemma 4's,
// which is between the two.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/account.h"
#include "model/tokenizer/vocabulary.h"
#include "odmoe/chat_template.h"
#include "odmoe/encode_limits.h"
#include "odmoe/result.h"

namespace odmoe {

// Immutable, so thread-safe.
class Tokenizer {
 public:
  // Reads tokenizer.ggml.*: model ("gpt2", "llama", "gemma4"), pre (the splitting rule), tokens, token_type,
  // merges or scores, bos/eos/eot ids, add_bos_token, ...  Copies what it needs: the checkpoint may go.
  // Errors: kUnsupported naming the model or rule and those that are known; kBadFile (no rule, no vocabulary,
  // a byte without a token, merges of unknown tokens, ids out of range).
  static Result<std::unique_ptr<Tokenizer>> create(Account& account);

  virtual ~Tokenizer() = default;

  struct EncodeOptions {
    bool add_special = true;  // BOS (and EOS) where the vocabulary asks for it
    bool parse_special =
        false;  // control tokens written in the text become tokens; user-defined ones always do
    // Parts of the text, in order and apart, that somebody else wrote: whatever they spell, they become no
    // control token, nor a user-defined one that looks like one (`<|`, `<｜`: vocabularies are not careful).
    // GCC warns of designated initialisers that leave out a member without an initialiser.
    std::span<const ChatText::Range> said = {};  // NOLINT(readability-redundant-member-init)
  };
  // Any bytes are accepted, invalid UTF-8 too: decode(encode(text)) == text, but for what the vocabulary does
  // not tell apart: with SentencePiece's U+2581 and a space; where the file asks for NFC, forms of a
  // character; with Phi-3's, white space after special tokens; with GPT-NeoX' and StarCoder's, bytes that
  // no UTF-8 has, which become U+FFFD, and the first of characters beyond U+3FFFF.  Takes memory for the
  // tokens and, while it works, for one word: never for all of the text, except for a copy where one of these
  // is in it, which EncodeLimits::word_bytes bounds too.
  virtual Result<std::vector<Token>> encode(std::string_view text, EncodeOptions options,
                                            const EncodeLimits& limits) const = 0;
  std::vector<Token> encode(std::string_view text, EncodeOptions options) const {
    return *encode(text, options, EncodeLimits());  // there is no error without limits
  }
  std::vector<Token> encode(std::string_view text) const { return encode(text, EncodeOptions()); }

  // The bytes of one token, possibly a part of a UTF-8 character.  Control tokens are empty unless `special`,
  // and so is a token beyond the vocabulary (models pad their output).
  virtual std::string token_bytes(Token token, bool special = false) const = 0;
  // A text from its beginning.  The space that a vocabulary puts before it is taken off, after BOS too.
  std::string decode(std::span<const Token> tokens, bool special = false) const;

  virtual int32_t n_vocab() const = 0;
  virtual Token bos() const = 0;  // -1: none
  virtual Token eos() const = 0;  // -1: none
  // Whether generation ends here: EOS, EOT, EOM and their like (<|im_end|>, <|endoftext|>, [EOS], ...).
  virtual bool is_end(Token token) const = 0;
  // Tokens that are not to be drawn whatever the model says (tokenizer.ggml.suppress_tokens).
  virtual std::span<const Token> suppressed() const = 0;
  virtual bool add_bos() const = 0;
  // Whether encode() puts a space before a text.  token_bytes() and StreamDecoder leave it where it is: they
  // do not know where a text begins.
  virtual bool add_space() const = 0;
  // The token that stands for exactly these bytes, -1 if none; a control or user-defined one goes first.
  virtual Token find(std::string_view text) const = 0;
  virtual std::string_view chat_template() const = 0;  // tokenizer.chat_template; empty: none
};

// Turns a stream of tokens into text that never ends inside a UTF-8 character.  One owner.
class StreamDecoder {
 public:
  StreamDecoder() = default;  // for push_bytes() alone
  explicit StreamDecoder(const Tokenizer& tokenizer, bool special = false)
      : tokenizer_(&tokenizer), special_(special) {}
  // The text that is complete after this token; bytes of an unfinished character are kept back.
  // Bytes that can no longer become a character come out as U+FFFD.
  std::string push(Token token) { return push_bytes(tokenizer_->token_bytes(token, special_)); }
  // The same for bytes that are known already.
  std::string push_bytes(std::string_view bytes);
  // What is left at the end, an unfinished character as U+FFFD.
  std::string finish();

 private:
  const Tokenizer* tokenizer_ = nullptr;
  bool special_ = false;
  std::string pending_;
};

}  // namespace odmoe
