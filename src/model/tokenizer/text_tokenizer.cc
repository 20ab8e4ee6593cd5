#include "model/tokenizer/text_tokenizer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/nfc.h"
#include "model/tokenizer/lower_block.h"

namespace odmoe {
namespace {

bool is_control(TokenKind kind) { return kind == TokenKind::kControl || kind == TokenKind::kUnknown; }

std::unexpected<Error> too_many(const EncodeLimits& limits) {
  return fail(ErrorKind::kBudget, "the text has more than {} tokens", limits.tokens);
}

// As C's isspace() has it.
bool is_white(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Of a character of four bytes.  Hugging Face's tokenizers and llama.cpp leave out one that is no token, as
// they do all that is no token; bytes that are no UTF-8 never reach those.
bool is_lead(char c) { return static_cast<uint8_t>(c) >= 0xF0 && static_cast<uint8_t>(c) <= 0xF4; }

}  // namespace

struct TextTokenizer::Work {
  explicit Work(const EncodeLimits& all) : limits(&all) {}

  const EncodeLimits* limits;
  std::vector<Token> tokens;
  MergeScratch scratch;
  std::optional<Error> failed;
  size_t since_asked = 0;  // bytes and words

  // Whether to go on.
  bool within() {
    if (tokens.size() > limits->tokens) failed = too_many(*limits).error();
    return !failed;
  }
  bool goes_on(size_t word_bytes) {
    constexpr size_t kAskEvery = 1024;  // about a tenth of a millisecond's work
    since_asked += 1 + word_bytes / 16;
    if (!limits->goes_on || since_asked < kAskEvery) return true;
    since_asked = 0;
    if (limits->goes_on()) return true;
    failed = Error{ErrorKind::kInterrupted, "interrupted while the text was made into tokens"};
    return false;
  }
};

TextTokenizer::TextTokenizer(TokenizerParts parts) : parts_(std::move(parts)), special_(parts_.vocabulary) {
  const Vocabulary& vocabulary = parts_.vocabulary;
  for (Token token = 0; token < vocabulary.size(); ++token) {
    longest_token_ = std::max(longest_token_, vocabulary.bytes(token).size());
    const TokenKind kind = vocabulary.kind(token);
    if (vocabulary.writing() == TokenWriting::kLowerBlock && !is_control(kind) && kind != TokenKind::kByte)
      joints_.add(vocabulary.bytes(token));
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (vocabulary.byte_token(static_cast<uint8_t>(byte)) < 0) tokenless_ += static_cast<char>(byte);
  }
}

bool TextTokenizer::is_end(Token token) const { return std::ranges::binary_search(parts_.end_tokens, token); }

Token TextTokenizer::find(std::string_view text) const {
  const Token special = special_.find_exact(text);
  return special >= 0 ? special : parts_.vocabulary.find(text);
}

std::string TextTokenizer::token_bytes(Token token, bool special) const {
  if (!parts_.vocabulary.contains(token)) return {};
  if (!special && is_control(parts_.vocabulary.kind(token))) return {};
  return std::string(parts_.vocabulary.bytes(token));
}

Result<std::vector<Token>> TextTokenizer::encode(std::string_view text, EncodeOptions options,
                                                 const EncodeLimits& limits) const {
  Work work(limits);
  if (limits.tokens < std::numeric_limits<size_t>::max()) {
    // More than the limit is never kept but for the last word's.
    work.tokens.reserve(std::min(limits.tokens, text.size() + 2));
  }
  if (options.add_special && parts_.add_bos) work.tokens.push_back(parts_.bos);
  for (size_t done = 0; done < text.size();) {
    const SpecialTokens::Match match = find_special(text, done, options);
    const size_t end = match.length > 0 ? match.begin : text.size();
    if (end > done) encode_between(text.substr(done, end - done), work);
    if (work.failed) return std::unexpected(*work.failed);
    done = end + match.length;
    if (match.length == 0) continue;
    work.tokens.push_back(match.token);
    if (!work.within()) return std::unexpected(*work.failed);
    if (std::ranges::binary_search(parts_.strips_white_after, match.token)) {
      while (done < text.size() && is_white(text[done])) ++done;
    }
  }
  if (options.add_special && parts_.add_eos) work.tokens.push_back(parts_.eos);
  if (work.tokens.size() > limits.tokens) return too_many(limits);
  return std::move(work.tokens);
}

// The next special token of the template's own words, or a harmless one of what was said.
SpecialTokens::Match TextTokenizer::find_special(std::string_view text, size_t from,
                                                 const EncodeOptions& options) const {
  if (options.said.empty()) return special_.find(text, from, options.parse_special);
  const auto find_in = [&](size_t begin, size_t end, bool said) {
    SpecialTokens::Match match;
    begin = std::max(begin, from);
    while (begin < end) {
      match = special_.find(text.substr(0, end), begin, options.parse_special && !said);
      if (match.length == 0 || !said) break;
      const std::string_view bytes = text.substr(match.begin, match.length);
      if (!bytes.starts_with("<|") && !bytes.starts_with("<｜")) break;
      begin = match.begin + 1;
      match = {};
    }
    return match;
  };
  size_t done = 0;
  // Binary search for where to begin: a long conversation has many parts, and this is called for each token.
  auto range =
      std::ranges::partition_point(options.said, [&](const ChatText::Range& r) { return r.end <= from; });
  if (range != options.said.begin()) done = std::prev(range)->end;
  for (; range != options.said.end(); ++range) {
    SpecialTokens::Match match = find_in(done, range->begin, false);
    if (match.length == 0) match = find_in(range->begin, range->end, true);
    if (match.length > 0) return match;
    done = range->end;
  }
  return find_in(done, text.size(), false);
}

// Text between special tokens, the text's beginning and its end; not empty.
void TextTokenizer::encode_between(std::string_view text, Work& work) const {
  // Copies, which ordinary text needs none of: no more than is spent on a word.
  const auto may_copy = [&](std::string_view what) {
    if (text.size() <= work.limits->word_bytes) return true;
    work.failed =
        fail(ErrorKind::kBudget, "the text has {} bytes with {} in them, and {} are the most: divide it",
             text.size(), what, work.limits->word_bytes)
            .error();
    return false;
  };
  std::optional<std::string> composed;
  if (parts_.to_nfc && !is_surely_nfc(text)) {
    if (!may_copy("characters to compose (NFC)")) return;
    composed = compose_nfc(text);
    if (composed) text = *composed;
  }
  std::string spaced;
  if (parts_.vocabulary.writing() == TokenWriting::kLowerBlock && text.contains(kLowerBlock)) {
    if (!may_copy("U+2581")) return;
    spaced = spaces_for_lower_blocks(text);
    text = spaced;
  }
  if (parts_.bpe) {
    parts_.bpe->splitter.split(text, [&](std::string_view word) { return encode_word(word, work); });
    return;
  }
  if (parts_.add_space) {
    std::string first = " ";
    if (joints_.holds(' ', text[0])) {
      const std::string_view part = joints_.first_part(text);
      if (too_long(part, work)) return;
      first += part;
      text.remove_prefix(part.size());
    }
    if (!work.goes_on(first.size()) || !merge(first, work)) return;
  }
  encode_parts(text, work);
}

bool TextTokenizer::encode_word(std::string_view word, Work& work) const {
  const BpeParts& bpe = *parts_.bpe;
  const Vocabulary& vocabulary = parts_.vocabulary;
  const bool may_be_whole = bpe.ignore_merges || (bpe.whole_newlines && !word.empty() && word[0] == '\n');
  const Token whole = may_be_whole ? vocabulary.find(word) : -1;
  if (whole >= 0 && (vocabulary.kind(whole) == TokenKind::kNormal || !bpe.ignore_merges)) {
    work.tokens.push_back(whole);
    return work.goes_on(word.size()) && work.within();
  }
  if (vocabulary.writing() == TokenWriting::kLowerBlock) return encode_parts(word, work);
  return work.goes_on(word.size()) && merge(word, work);
}

// Words may be as long as lines, or as texts: what cannot merge is merged apart.
bool TextTokenizer::encode_parts(std::string_view word, Work& work) const {
  while (!word.empty()) {
    const std::string_view part = joints_.first_part(word);
    if (!work.goes_on(part.size()) || !merge(part, work)) return false;
    word.remove_prefix(part.size());
  }
  return true;
}

// Whether a word exceeds a limit, which is a failure then.
bool TextTokenizer::too_long(std::string_view word, Work& work) const {
  const EncodeLimits& limits = *work.limits;
  // No word becomes fewer tokens than this: what cannot fit is not merged.
  const size_t least = word.size() / longest_token_;
  if (work.tokens.size() <= limits.tokens && least > limits.tokens - work.tokens.size()) {
    work.failed = too_many(limits).error();
  } else if (word.size() > limits.word_bytes) {
    work.failed = fail(ErrorKind::kBudget,
                       "the text has a word of {} bytes, and {} are the most that are merged into tokens: "
                       "divide it",
                       word.size(), limits.word_bytes)
                      .error();
  }
  return work.failed.has_value();
}

// The word with what stands for bytes that have no token.
std::string TextTokenizer::without_tokenless(std::string_view word) const {
  std::string text;
  for (const char byte : word) {
    if (!tokenless_.contains(byte)) {
      text += byte;
    } else if (!is_lead(byte)) {
      text += "\uFFFD";
    }
  }
  return text;
}

bool TextTokenizer::merge(std::string_view word, Work& work) const {
  if (too_long(word, work)) return false;
  if (word.find_first_of(tokenless_) != std::string_view::npos) {
    const std::string known = without_tokenless(word);
    return known.empty() || merge(known, work);
  }
  if (parts_.spm) {
    parts_.spm->encode(parts_.vocabulary, word, &work.scratch, &work.tokens);
  } else {
    parts_.bpe->merges.encode(parts_.vocabulary, word, &work.scratch, &work.tokens);
  }
  return work.within();
}

}  // namespace odmoe
