// The bytes and the kind of every token, and the way back from bytes to token.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

using Token = int32_t;

// As tokenizer.ggml.token_type numbers them.
enum class TokenKind : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // part of the protocol: from text only when asked for, never shown
  kUserDefined = 4,  // text that is always one token
  kUnused = 5,
  kByte = 6,
};

// How a file writes the bytes of its normal tokens.  Control and user-defined ones are always as they are.
enum class TokenWriting : uint8_t {
  kByteAlphabet,  // GPT-2's: a character for each byte
  kLowerBlock,    // SentencePiece's: as they are, but for a space U+2581, and "<0x0A>" for a byte of its own
};

// Immutable once built, so thread-safe.  One string and three arrays: 163,840 tokens take 4 MB.
class Vocabulary {
 public:
  // `texts` as the file has them. `kinds` has as many elements, or none: all normal.
  // Errors: kBadFile, beginning "the vocabulary ": among others a byte that no token stands for.
  static Result<Vocabulary> build(const std::vector<std::string>& texts, const std::vector<int64_t>& kinds,
                                  TokenWriting writing = TokenWriting::kByteAlphabet);

  TokenWriting writing() const { return writing_; }
  // The bytes that a normal token's text stands for; nothing when it is not written so.
  std::optional<std::string> decode(std::string_view text) const;

  int32_t size() const { return static_cast<int32_t>(kinds_.size()); }
  bool contains(Token token) const { return token >= 0 && token < size(); }

  // Requires contains(token).
  std::string_view bytes(Token token) const;
  TokenKind kind(Token token) const { return kinds_[static_cast<size_t>(token)]; }
  void set_kind(Token token, TokenKind kind) { kinds_[static_cast<size_t>(token)] = kind; }

  // The token that has these bytes, -1 if none.  A normal token goes before a control or user-defined one,
  // and these before one that stands for a byte.
  Token find(std::string_view bytes) const;
  // -1 at most for bytes that no UTF-8 has, and those that characters beyond U+3FFFF begin with.
  Token byte_token(uint8_t byte) const { return byte_tokens_[byte]; }

 private:
  Vocabulary() = default;
  Status index_bytes();
  void index(Token token);

  TokenWriting writing_ = TokenWriting::kByteAlphabet;
  std::string bytes_;              // of all tokens, one after the other
  std::vector<uint32_t> offsets_;  // [size + 1] into bytes_
  std::vector<TokenKind> kinds_;
  std::vector<Token> slots_;        // open addressing, a power of two; -1: free
  std::vector<Token> byte_tokens_;  // [256]
};

}  // namespace odmoe
