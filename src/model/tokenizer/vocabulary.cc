#include "model/tokenizer/vocabulary.h"

#include <bit>
#include <functional>
#include <limits>

#include "base/byte_alphabet.h"
#include "model/tokenizer/lower_block.h"

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

std::optional<std::string> Vocabulary::decode(std::string_view text) const {
  return writing_ == TokenWriting::kByteAlphabet ? decode_byte_alphabet(text) : spaces_for_lower_blocks(text);
}

Status Vocabulary::index_bytes() {
  byte_tokens_.assign(256, -1);
  for (Token token = 0; writing_ == TokenWriting::kLowerBlock && token < size(); ++token) {
    if (kind(token) == TokenKind::kByte && bytes(token).size() == 1)
      byte_tokens_[static_cast<uint8_t>(bytes(token)[0])] = token;
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    if (byte_tokens_[byte] < 0) byte_tokens_[byte] = find(std::string_view(&c, 1));
    const bool of_text = byte < 0xC0 || (byte > 0xC1 && byte < 0xF1);
    if (byte_tokens_[byte] < 0 && of_text) {
      return fail(ErrorKind::kBadFile, "the vocabulary has no token for the byte 0x{:02X}: {}", byte,
                  writing_ == TokenWriting::kByteAlphabet ? "not byte-level BPE" : "no byte fallback");
    }
  }
  return {};
}

Result<Vocabulary> Vocabulary::build(const std::vector<std::string>& texts, const std::vector<int64_t>& kinds,
                                     TokenWriting writing) {
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
  vocabulary.writing_ = writing;
  size_t total = 0;
  for (const std::string& text : texts) total += text.size();
  if (total > std::numeric_limits<uint32_t>::max()) {
    return fail(ErrorKind::kBadFile, "the vocabulary has {} bytes of text, more than makes sense", total);
  }
  vocabulary.bytes_.reserve(total);
  vocabulary.offsets_.reserve(texts.size() + 1);
  vocabulary.kinds_.reserve(texts.size());
  vocabulary.offsets_.push_back(0);
  // Who is found first when several tokens have the same bytes: what is written as normal tokens are, what is
  // not, single bytes.
  std::vector<uint8_t> turns(texts.size(), 1);
  for (size_t i = 0; i < texts.size(); ++i) {
    const TokenKind kind = kinds.empty() ? TokenKind::kNormal : kind_of(kinds[i]);
    std::optional<std::string> decoded;
    if (writing == TokenWriting::kLowerBlock && kind == TokenKind::kByte) {
      decoded = decode_byte_token(texts[i]);
      turns[i] = 2;
    } else if (!is_added(kind)) {
      decoded = vocabulary.decode(texts[i]);
      if (decoded.has_value()) turns[i] = 0;
    } else if (writing == TokenWriting::kLowerBlock && kind == TokenKind::kUserDefined) {
      decoded = vocabulary.decode(texts[i]);  // found in text, whose spaces are spaces
    }
    vocabulary.bytes_ += decoded.has_value() ? *decoded : texts[i];
    vocabulary.offsets_.push_back(static_cast<uint32_t>(vocabulary.bytes_.size()));
    vocabulary.kinds_.push_back(kind);
  }
  vocabulary.bytes_.shrink_to_fit();

  vocabulary.slots_.assign(std::bit_ceil(texts.size() * 2), -1);
  for (uint8_t turn = 0; turn <= 2; ++turn) {
    for (Token token = 0; token < vocabulary.size(); ++token) {
      if (turns[static_cast<size_t>(token)] == turn && !vocabulary.bytes(token).empty())
        vocabulary.index(token);
    }
  }
  ODMOE_RETURN_IF_ERROR(vocabulary.index_bytes());
  return vocabulary;
}

}  // namespace odmoe
