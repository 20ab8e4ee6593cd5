#include "model/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "format/printable.h"
#include "model/tokenizer/bpe.h"
#include "model/tokenizer/end_tokens.h"
#include "model/tokenizer/special_tokens.h"
#include "model/tokenizer/split_rules.h"
#include "model/tokenizer/splitter.h"
#include "model/tokenizer/vocabulary.h"

namespace odmoe {
namespace {

constexpr std::string_view kModelKey = "tokenizer.ggml.model";
constexpr std::string_view kRuleKey = "tokenizer.ggml.pre";
constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kKindsKey = "tokenizer.ggml.token_type";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr std::string_view kTemplateKey = "tokenizer.chat_template";

std::string name_of(const Account& account) { return account.file().path().string(); }

// -1 when the key is absent.
Result<Token> read_token_id(Account& account, std::string_view key, const Vocabulary& vocabulary) {
  if (!account.has(key)) return -1;
  ODMOE_ASSIGN_OR_RETURN(const int64_t id, account.get_int(key));
  if (id < 0 || id >= vocabulary.size()) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}, beyond the {} tokens of the vocabulary", name_of(account),
                key, id, vocabulary.size());
  }
  return static_cast<Token>(id);
}

// `add` (BOS or EOS) as the file says, else as the rule does; an `id` is required then.
Result<bool> read_add(Account& account, std::string_view key, bool otherwise, Token id) {
  bool add = otherwise;
  if (account.has(key)) {
    ODMOE_ASSIGN_OR_RETURN(add, account.get_bool(key));
  }
  if (add && id < 0) {
    return fail(ErrorKind::kBadFile, "{}: {} asks for a token whose id the file does not name",
                name_of(account), key);
  }
  return add;
}

struct Parts {
  Vocabulary vocabulary;
  BpeMerges merges;
  Splitter splitter;
  std::vector<Token> end_tokens;  // sorted
  std::string chat_template;
  Token bos = -1;
  Token eos = -1;
  bool add_bos = false;
  bool add_eos = false;
  bool ignore_merges = false;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(Parts parts) : parts_(std::move(parts)), special_(parts_.vocabulary) {
    for (Token token = 0; token < parts_.vocabulary.size(); ++token) {
      longest_token_ = std::max(longest_token_, parts_.vocabulary.bytes(token).size());
    }
  }

  Result<std::vector<Token>> encode(std::string_view text, EncodeOptions options,
                                    const EncodeLimits& limits) const override {
    Work work(limits);
    if (limits.tokens < std::numeric_limits<size_t>::max()) {
      // More than the limit is never kept but for the last word's.
      work.tokens.reserve(std::min(limits.tokens, text.size() + 2));
    }
    if (options.add_special && parts_.add_bos) work.tokens.push_back(parts_.bos);
    for (size_t done = 0; done < text.size();) {
      const SpecialTokens::Match match = options.said.empty()
                                             ? special_.find(text, done, options.parse_special)
                                             : find_outside(text, done, options);
      const size_t end = match.length > 0 ? match.begin : text.size();
      parts_.splitter.split(text.substr(done, end - done),
                            [&](std::string_view word) { return encode_word(word, work); });
      if (work.failed) return std::unexpected(*work.failed);
      if (match.length > 0) {
        work.tokens.push_back(match.token);
        if (!within(work)) return std::unexpected(*work.failed);
      }
      done = end + match.length;
    }
    if (options.add_special && parts_.add_eos) work.tokens.push_back(parts_.eos);
    if (work.tokens.size() > limits.tokens) return too_many(limits);
    return std::move(work.tokens);
  }

  std::string token_bytes(Token token, bool special) const override {
    if (!parts_.vocabulary.contains(token)) return {};
    const TokenKind kind = parts_.vocabulary.kind(token);
    if (!special && (kind == TokenKind::kControl || kind == TokenKind::kUnknown)) return {};
    return std::string(parts_.vocabulary.bytes(token));
  }

  int32_t n_vocab() const override { return parts_.vocabulary.size(); }
  Token bos() const override { return parts_.bos; }
  Token eos() const override { return parts_.eos; }
  bool is_end(Token token) const override { return std::ranges::binary_search(parts_.end_tokens, token); }
  bool add_bos() const override { return parts_.add_bos; }
  std::string_view chat_template() const override { return parts_.chat_template; }

  Token find(std::string_view text) const override {
    const Token special = special_.find_exact(text);
    return special >= 0 ? special : parts_.vocabulary.find(text);
  }

 private:
  struct Work {
    explicit Work(const EncodeLimits& all) : limits(&all) {}
    const EncodeLimits* limits;
    std::vector<Token> tokens;
    BpeMerges::Scratch scratch;
    std::optional<Error> failed;
    size_t since_asked = 0;  // bytes and words
  };

  // The next special token of the template's own words, or a harmless one of what was said.
  SpecialTokens::Match find_outside(std::string_view text, size_t from, const EncodeOptions& options) const {
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
    // Binary search for where to begin: a long conversation has many parts, and this is called for each
    // token.
    auto range =
        std::ranges::partition_point(options.said, [&](const TextRange& r) { return r.end <= from; });
    if (range != options.said.begin()) done = std::prev(range)->end;
    for (; range != options.said.end(); ++range) {
      SpecialTokens::Match match = find_in(done, range->begin, false);
      if (match.length == 0) match = find_in(range->begin, range->end, true);
      if (match.length > 0) return match;
      done = range->end;
    }
    return find_in(done, text.size(), false);
  }

  static std::unexpected<Error> too_many(const EncodeLimits& limits) {
    return fail(ErrorKind::kBudget, "the text has more than {} tokens", limits.tokens);
  }

  // Whether to go on.
  static bool within(Work& work) {
    if (work.tokens.size() > work.limits->tokens) work.failed = too_many(*work.limits).error();
    return !work.failed;
  }

  bool encode_word(std::string_view word, Work& work) const {
    // About a tenth of a millisecond's work.
    constexpr size_t kAskEvery = 1024;
    const EncodeLimits& limits = *work.limits;
    work.since_asked += 1 + word.size() / 16;
    if (limits.goes_on && work.since_asked >= kAskEvery) {
      work.since_asked = 0;
      if (!limits.goes_on()) {
        work.failed = Error{ErrorKind::kInterrupted, "interrupted while the text was made into tokens"};
        return false;
      }
    }
    const Token whole = parts_.ignore_merges ? parts_.vocabulary.find(word) : -1;
    if (whole >= 0 && parts_.vocabulary.kind(whole) == TokenKind::kNormal) {
      work.tokens.push_back(whole);
      return within(work);
    }
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
    } else {
      parts_.merges.encode(parts_.vocabulary, word, &work.scratch, &work.tokens);
    }
    return within(work);
  }

  Parts parts_;
  SpecialTokens special_;     // refers to parts_
  size_t longest_token_ = 1;  // in bytes
};

Result<const SplitRule*> read_rule(Account& account) {
  ODMOE_ASSIGN_OR_RETURN(const std::string model, account.get_string(kModelKey));
  if (model != "gpt2") {
    return fail(ErrorKind::kUnsupported,
                "{}: tokenizer model \"{}\" is not supported: this program knows gpt2", name_of(account),
                printable(model));
  }
  ODMOE_ASSIGN_OR_RETURN(const std::string name, account.get_string(kRuleKey));
  const SplitRule* rule = find_split_rule(name);
  if (rule == nullptr) {
    return fail(ErrorKind::kUnsupported,
                "{}: tokenizer splitting rule \"{}\" is not supported: this program knows {}",
                name_of(account), printable(name), known_split_rules());
  }
  return rule;
}

Result<Vocabulary> read_vocabulary(Account& account) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::string> texts, account.get_strings(kTokensKey));
  std::vector<int64_t> kinds;
  if (account.has(kKindsKey)) {
    ODMOE_ASSIGN_OR_RETURN(kinds, account.get_ints(kKindsKey));
  }
  Result<Vocabulary> vocabulary = Vocabulary::build(texts, kinds);
  if (!vocabulary.has_value()) {
    return fail(vocabulary.error().kind, "{}: {}", name_of(account), vocabulary.error().message);
  }
  return vocabulary;
}

Result<BpeMerges> read_merges(Account& account, const Vocabulary& vocabulary) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::string> texts, account.get_strings(kMergesKey));
  Result<BpeMerges> merges = BpeMerges::build(texts, vocabulary);
  if (!merges.has_value())
    return fail(merges.error().kind, "{}: {}", name_of(account), merges.error().message);
  return merges;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(Account& account) {
  ODMOE_ASSIGN_OR_RETURN(const SplitRule* rule, read_rule(account));
  ODMOE_ASSIGN_OR_RETURN(Splitter splitter, Splitter::compile(rule->expressions));
  ODMOE_ASSIGN_OR_RETURN(Vocabulary vocabulary, read_vocabulary(account));
  ODMOE_ASSIGN_OR_RETURN(BpeMerges merges, read_merges(account, vocabulary));

  ODMOE_ASSIGN_OR_RETURN(const Token bos, read_token_id(account, "tokenizer.ggml.bos_token_id", vocabulary));
  ODMOE_ASSIGN_OR_RETURN(const Token eos, read_token_id(account, "tokenizer.ggml.eos_token_id", vocabulary));
  std::vector<Token> named_ends = {eos};
  for (const std::string_view key : kEndTokenKeys) {
    ODMOE_ASSIGN_OR_RETURN(const Token id, read_token_id(account, key, vocabulary));
    named_ends.push_back(id);
  }
  ODMOE_ASSIGN_OR_RETURN(const bool add_bos,
                         read_add(account, "tokenizer.ggml.add_bos_token", rule->add_bos, bos));
  ODMOE_ASSIGN_OR_RETURN(const bool add_eos, read_add(account, "tokenizer.ggml.add_eos_token", false, eos));
  std::string chat_template;
  if (account.has(kTemplateKey)) {
    ODMOE_ASSIGN_OR_RETURN(chat_template, account.get_string(kTemplateKey));
  }

  std::vector<Token> ends = find_end_tokens(vocabulary, named_ends);
  // What ends a generation is never shown, and text cannot write it unless asked to.
  for (const Token token : ends) vocabulary.set_kind(token, TokenKind::kControl);

  return std::make_unique<BpeTokenizer>(Parts{.vocabulary = std::move(vocabulary),
                                              .merges = std::move(merges),
                                              .splitter = std::move(splitter),
                                              .end_tokens = std::move(ends),
                                              .chat_template = std::move(chat_template),
                                              .bos = bos,
                                              .eos = eos,
                                              .add_bos = add_bos,
                                              .add_eos = add_eos,
                                              .ignore_merges = rule->ignore_merges});
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool special) const {
  std::string text;
  for (const Token token : tokens) text += token_bytes(token, special);
  return text;
}

}  // namespace odmoe
