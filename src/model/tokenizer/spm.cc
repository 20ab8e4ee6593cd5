#include "model/tokenizer/spm.h"

#include <algorithm>

#include "base/utf8.h"

namespace odmoe {
namespace {

bool is_merged_to(TokenKind kind) { return kind == TokenKind::kNormal || kind == TokenKind::kUnused; }

}  // namespace

void Joints::add(std::string_view token) {
  for (size_t i = 1; i < token.size(); ++i) pairs_.set(index(token[i - 1], token[i]));
}

std::string_view Joints::first_part(std::string_view text) const {
  size_t end = 1;
  // A character is never cut, even if no token has it.
  while (end < text.size() && (holds(text[end - 1], text[end]) || (text[end] & 0xC0) == 0x80)) ++end;
  return text.substr(0, end);
}

Result<SpmScores> SpmScores::build(std::span<const float> scores, const Vocabulary& vocabulary) {
  const auto n = static_cast<size_t>(vocabulary.size());
  if (scores.size() < n) {
    return fail(ErrorKind::kBadFile, "the vocabulary has {} tokens but only {} scores", n, scores.size());
  }
  SpmScores built;
  std::vector<float> levels(scores.begin(), scores.begin() + static_cast<ptrdiff_t>(n));
  std::ranges::sort(levels, std::greater<>());
  const auto repeated = std::ranges::unique(levels);
  levels.erase(repeated.begin(), repeated.end());
  built.ranks_.reserve(n);
  for (size_t i = 0; i < n; ++i) {
    const auto level = std::ranges::lower_bound(levels, scores[i], std::greater<>());
    built.ranks_.push_back(static_cast<uint32_t>(level - levels.begin()));
    const auto token = static_cast<Token>(i);
    if (is_merged_to(vocabulary.kind(token)))
      built.longest_ = std::max(built.longest_, vocabulary.bytes(token).size());
  }
  return built;
}

Token SpmScores::find(const Vocabulary& vocabulary, std::string_view text) const {
  if (text.size() > longest_) return -1;
  const Token token = vocabulary.find(text);
  return token >= 0 && is_merged_to(vocabulary.kind(token)) ? token : -1;
}

// The value of a symbol is its length.
struct SpmScores::Pairs {
  const SpmScores* scores;
  const Vocabulary* vocabulary;
  std::string_view text;

  static uint32_t length(int32_t value) { return static_cast<uint32_t>(value); }
  uint32_t rank(uint32_t at, int32_t left, int32_t right) const {
    const Token token = scores->find(*vocabulary, text.substr(at, length(left) + length(right)));
    return token < 0 ? kNoRank : scores->ranks_[static_cast<size_t>(token)];
  }
  bool is(uint32_t rank, uint32_t at, int32_t left, int32_t right) const {
    return this->rank(at, left, right) == rank;
  }
  static int32_t merged(uint32_t /*rank*/, int32_t left, int32_t right) { return left + right; }
};

void SpmScores::encode(const Vocabulary& vocabulary, std::string_view text, MergeScratch* scratch,
                       std::vector<Token>* out) const {
  while (text.size() > kMaxMergedBytes) {
    encode(vocabulary, text.substr(0, kMaxMergedBytes), scratch, out);
    text.remove_prefix(kMaxMergedBytes);
  }
  const auto n = static_cast<uint32_t>(text.size());
  scratch->symbols.resize(n);
  for (uint32_t at = 0; at < n;) {
    const Utf8Char c = read_utf8(text.substr(at));
    const uint32_t length = c.valid ? static_cast<uint32_t>(c.length) : 1;
    scratch->put(at, length, static_cast<int32_t>(length));
    at += length;
  }
  merge_pairs(scratch, Pairs{.scores = this, .vocabulary = &vocabulary, .text = text});
  for (uint32_t at = 0; at < n; at += static_cast<uint32_t>(scratch->symbols[at])) {
    const std::string_view piece = text.substr(at, static_cast<size_t>(scratch->symbols[at]));
    const Token token = find(vocabulary, piece);
    if (token >= 0) {
      out->push_back(token);
      continue;
    }
    for (const char byte : piece) out->push_back(vocabulary.byte_token(static_cast<uint8_t>(byte)));
  }
}

}  // namespace odmoe
