#include "model/tokenizer/vocabulary.h"

#include <bit>
#include <functional>
#include <limits>

#include "base/byte_alphabet.h"

namespace odmoe {
namespace {

// Token ids are int32; a vocabulary of this size would be a damaged file long before.
constexpr size_t kMaxTokens = 1 << 24;

bool is_added(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUserDefined || kind == TokenKind::kUnknown;
}

TokenKind kind_of(int64_t value) {
  return value >= 1 && value <= 6 ? static_cast<TokenKind>(value) : TokenKind::kNormal;
}

}  // namespace

std::string_view Vocabulary::bytes(Token token) const {
  const auto i = static_cast<size_t>(token);
  return std::string_view(bytes_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
}

Token Vocabulary::find(std::string_view bytes) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = std::hash<std::string_view>()(bytes) & mask; slots_[at] >= 0; at = (at + 1) & mask) {
    if (this->bytes(slots_[at]) == bytes) return slots_[at];
  }
  return -1;
}

void Vocabulary::index(Token token) {
  const size_t mask = slots_.size() - 1;
  size_t at = std::hash<std::string_view>()(bytes(token)) & mask;
  while (slots_[at] >= 0) {
    if (bytes(slots_[at]) == bytes(token)) return;  // the first one keeps its place
    at = (at + 1) & mask;
  }
  slots_[at] = token;
}

Result<Vocabulary> Vocabulary::build(const std::vector<std::string>& texts,
                                     const std::vector<int64_t>& kinds) {
  if (texts.empty()) return fail(ErrorKind::kBadFile, "the vocabulary is empty");
  if (texts.size() > kMaxTokens) {
    return fail(ErrorKind::kBadFile, "the vocabulary has {} tokens, more than the {} that make sense",
                texts.size(), kMaxTokens);
  }
  if (!kinds.empty() && kinds.size() < texts.size()) {
    return fail(ErrorKind::kBadFile, "the vocabulary has {} tokens but only {} token types", texts.size(),
                kinds.size());
  }

  Vocabulary vocabulary;
  size_t total = 0;
  for (const std::string& text : texts) total += text.size();
  if (total > std::numeric_limits<uint32_t>::max()) {
    return fail(ErrorKind::kBadFile, "the vocabulary has {} bytes of text, more than makes sense", total);
  }
  vocabulary.bytes_.reserve(total);
  vocabulary.offsets_.reserve(texts.size() + 1);
  vocabulary.kinds_.reserve(texts.size());
  vocabulary.offsets_.push_back(0);
  std::vector<bool> plain(texts.size());  // written in characters that are not of the byte alphabet
  for (size_t i = 0; i < texts.size(); ++i) {
    const TokenKind kind = kinds.empty() ? TokenKind::kNormal : kind_of(kinds[i]);
    std::optional<std::string> decoded;
    if (!is_added(kind)) decoded = decode_byte_alphabet(texts[i]);
    plain[i] = !decoded.has_value();
    vocabulary.bytes_ += decoded.has_value() ? *decoded : texts[i];
    vocabulary.offsets_.push_back(static_cast<uint32_t>(vocabulary.bytes_.size()));
    vocabulary.kinds_.push_back(kind);
  }
  vocabulary.bytes_.shrink_to_fit();

  vocabulary.slots_.assign(std::bit_ceil(texts.size() * 2), -1);
  for (const bool added : {false, true}) {
    for (Token token = 0; token < vocabulary.size(); ++token) {
      if (plain[static_cast<size_t>(token)] == added && !vocabulary.bytes(token).empty())
        vocabulary.index(token);
    }
  }

  vocabulary.byte_tokens_.resize(256);
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const Token token = vocabulary.find(std::string_view(&c, 1));
    if (token < 0) {
      return fail(ErrorKind::kBadFile,
                  "the vocabulary has no token for the byte 0x{:02X}: not byte-level BPE", byte);
    }
    vocabulary.byte_tokens_[byte] = token;
  }
  return vocabulary;
}

}  // namespace odmoe
