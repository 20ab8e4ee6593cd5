#include "model/tokenizer/tokenizer.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "format/printable.h"
#include "model/tokenizer/end_tokens.h"
#include "model/tokenizer/split_rules.h"
#include "model/tokenizer/text_tokenizer.h"
#include "model/tokenizer/vocabulary.h"

namespace odmoe {
namespace {

constexpr std::string_view kModelKey = "tokenizer.ggml.model";
constexpr std::string_view kRuleKey = "tokenizer.ggml.pre";
constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kKindsKey = "tokenizer.ggml.token_type";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";
constexpr std::string_view kAddSpaceKey = "tokenizer.ggml.add_space_prefix";
constexpr std::string_view kAddBosKey = "tokenizer.ggml.add_bos_token";
constexpr std::string_view kAddEosKey = "tokenizer.ggml.add_eos_token";
constexpr std::string_view kBosKey = "tokenizer.ggml.bos_token_id";
constexpr std::string_view kEosKey = "tokenizer.ggml.eos_token_id";
constexpr std::string_view kSuppressKey = "tokenizer.ggml.suppress_tokens";
constexpr std::string_view kNfcKey = "tokenizer.ggml.normalizer.nfc";
constexpr std::string_view kTemplateKey = "tokenizer.chat_template";

std::string name_of(const Account& account) { return account.file().path().string(); }

Result<Token> read_token_id(Account& account, std::string_view key, const Vocabulary& vocabulary,
                            Token otherwise) {
  if (!account.has(key)) return otherwise;
  ODMOE_ASSIGN_OR_RETURN(const int64_t id, account.get_int(key));
  if (id < 0 || id >= vocabulary.size()) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}, beyond the {} tokens of the vocabulary", name_of(account),
                key, id, vocabulary.size());
  }
  return static_cast<Token>(id);
}

// Whether BOS or EOS is added, as the file says, else as the rule does; an `id` is required then.
Result<bool> read_add(Account& account, std::string_view key, const SplitRule& rule, Token id) {
  bool add = rule.add_bos;
  if (account.has(key)) {
    ODMOE_ASSIGN_OR_RETURN(add, account.get_bool(key));
  }
  add = add || rule.always_bos;
  if (add && id < 0) {
    return fail(ErrorKind::kBadFile, "{}: {} asks for a token whose id the file does not name",
                name_of(account), key);
  }
  return add;
}

enum class Model : uint8_t { kBpe, kSpm };

// What the file's model and rule say together.
struct Kind {
  Model model = Model::kBpe;
  SplitRule rule;
};

Result<SplitRule> read_rule(Account& account) {
  ODMOE_ASSIGN_OR_RETURN(const std::string name, account.get_string(kRuleKey));
  const SplitRule* rule = find_split_rule(name);
  if (rule != nullptr) return *rule;
  return fail(ErrorKind::kUnsupported,
              "{}: tokenizer splitting rule \"{}\" is not supported: this program knows {}", name_of(account),
              printable(name), known_split_rules());
}

// For models that have no choice of rules.
Status expect_no_rule(Account& account, const std::string& model) {
  if (!account.has(kRuleKey)) return {};
  ODMOE_ASSIGN_OR_RETURN(const std::string name, account.get_string(kRuleKey));
  if (name == "default" || name == model) return {};
  return fail(ErrorKind::kUnsupported,
              "{}: tokenizer splitting rule \"{}\" is not supported with tokenizer model {}: this program "
              "knows default",
              name_of(account), printable(name), model);
}

Result<Kind> read_kind(Account& account) {
  ODMOE_ASSIGN_OR_RETURN(const std::string model, account.get_string(kModelKey));
  if (model == "gpt2") {
    ODMOE_ASSIGN_OR_RETURN(const SplitRule rule, read_rule(account));
    return Kind{.model = Model::kBpe, .rule = rule};
  }
  if (model == "gemma4") {
    ODMOE_RETURN_IF_ERROR(expect_no_rule(account, model));
    return Kind{.model = Model::kBpe, .rule = *find_split_rule("gemma4")};
  }
  if (model == "llama") {
    ODMOE_RETURN_IF_ERROR(expect_no_rule(account, model));
    return Kind{.model = Model::kSpm,
                .rule = {.expressions = {}, .add_bos = true, .writing = TokenWriting::kLowerBlock}};
  }
  return fail(ErrorKind::kUnsupported,
              "{}: tokenizer model \"{}\" is not supported: this program knows gemma4, gpt2, llama",
              name_of(account), printable(model));
}

Result<Vocabulary> read_vocabulary(Account& account, TokenWriting writing) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::string> texts, account.get_strings(kTokensKey));
  std::vector<int64_t> kinds;
  if (account.has(kKindsKey)) {
    ODMOE_ASSIGN_OR_RETURN(kinds, account.get_ints(kKindsKey));
  }
  Result<Vocabulary> vocabulary = Vocabulary::build(texts, kinds, writing);
  if (!vocabulary.has_value()) {
    return fail(vocabulary.error().kind, "{}: {}", name_of(account), vocabulary.error().message);
  }
  return vocabulary;
}

Result<BpeParts> read_bpe(Account& account, const Vocabulary& vocabulary, const SplitRule& rule) {
  ODMOE_ASSIGN_OR_RETURN(Splitter splitter, Splitter::compile(rule.expressions));
  ODMOE_ASSIGN_OR_RETURN(const std::vector<std::string> texts, account.get_strings(kMergesKey));
  Result<BpeMerges> merges = BpeMerges::build(texts, vocabulary);
  if (!merges.has_value())
    return fail(merges.error().kind, "{}: {}", name_of(account), merges.error().message);
  return BpeParts{.splitter = std::move(splitter),
                  .merges = std::move(*merges),
                  .ignore_merges = rule.ignore_merges,
                  .whole_newlines = rule.whole_newlines};
}

Result<SpmScores> read_scores(Account& account, const Vocabulary& vocabulary) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<float> scores, account.get_floats(kScoresKey));
  Result<SpmScores> built = SpmScores::build(scores, vocabulary);
  if (!built.has_value()) return fail(built.error().kind, "{}: {}", name_of(account), built.error().message);
  return built;
}

// Phi-3's special tokens take the white space after them, which no key says; llama.cpp knows it by the name.
Result<bool> is_phi3(Account& account) {
  std::string name, architecture;
  if (account.has("general.name")) {
    ODMOE_ASSIGN_OR_RETURN(name, account.get_string("general.name"));
  }
  if (account.has("general.architecture")) {
    ODMOE_ASSIGN_OR_RETURN(architecture, account.get_string("general.architecture"));
  }
  std::ranges::transform(name, name.begin(), [](char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
  });
  return name.contains("phi-3") || name.contains("phi3") || architecture == "phimoe";
}

std::vector<Token> tokens_that_strip(const Vocabulary& vocabulary) {
  constexpr auto kOthers = std::to_array<std::string_view>({"<unk>", "<s>", "<|endoftext|>"});
  std::vector<Token> tokens;
  for (Token token = 0; token < vocabulary.size(); ++token) {
    const TokenKind kind = vocabulary.kind(token);
    const bool special =
        kind == TokenKind::kControl || kind == TokenKind::kUserDefined || kind == TokenKind::kUnknown;
    if (special && !std::ranges::contains(kOthers, vocabulary.bytes(token))) tokens.push_back(token);
  }
  return tokens;
}

// BOS, EOS and who ends a generation.
Status read_special_tokens(Account& account, const Kind& kind, TokenizerParts& parts) {
  Vocabulary& vocabulary = parts.vocabulary;
  // SentencePiece's own, where the file names none.
  const auto usual = [&](Token token) {
    return kind.model == Model::kSpm && vocabulary.contains(token) ? token : -1;
  };
  ODMOE_ASSIGN_OR_RETURN(parts.bos, read_token_id(account, kBosKey, vocabulary, usual(1)));
  ODMOE_ASSIGN_OR_RETURN(parts.eos, read_token_id(account, kEosKey, vocabulary, usual(2)));
  std::vector<Token> named_ends = {parts.eos};
  for (const std::string_view key : kEndTokenKeys) {
    ODMOE_ASSIGN_OR_RETURN(const Token id, read_token_id(account, key, vocabulary, -1));
    named_ends.push_back(id);
  }
  ODMOE_ASSIGN_OR_RETURN(parts.add_bos, read_add(account, kAddBosKey, kind.rule, parts.bos));
  ODMOE_ASSIGN_OR_RETURN(parts.add_eos, read_add(account, kAddEosKey, {}, parts.eos));
  parts.end_tokens = find_end_tokens(vocabulary, named_ends);
  // What ends a generation is never shown, and text cannot write it unless asked to; nor what it is filled in
  // by.
  for (const Token token : parts.end_tokens) vocabulary.set_kind(token, TokenKind::kControl);
  for (const Token token : find_fill_tokens(vocabulary)) vocabulary.set_kind(token, TokenKind::kControl);
  return {};
}

Result<std::vector<Token>> read_suppressed(Account& account, const Vocabulary& vocabulary) {
  std::vector<Token> tokens;
  // Of an array that is empty nobody knows what it would be of.
  if (const auto texts = account.file().get_strings(kSuppressKey); texts.has_value() && texts->empty()) {
    return tokens;
  }
  if (!account.has(kSuppressKey)) return tokens;
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int64_t> ids, account.get_ints(kSuppressKey));
  for (const int64_t id : ids) {
    if (id < 0 || id >= vocabulary.size()) {
      return fail(ErrorKind::kBadFile, "{}: {} has {}, beyond the {} tokens of the vocabulary",
                  name_of(account), kSuppressKey, id, vocabulary.size());
    }
    tokens.push_back(static_cast<Token>(id));
  }
  return tokens;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(Account& account) {
  ODMOE_ASSIGN_OR_RETURN(const Kind kind, read_kind(account));
  ODMOE_ASSIGN_OR_RETURN(Vocabulary vocabulary, read_vocabulary(account, kind.rule.writing));
  TokenizerParts parts{.vocabulary = std::move(vocabulary)};
  ODMOE_ASSIGN_OR_RETURN(parts.suppressed, read_suppressed(account, parts.vocabulary));
  if (kind.model == Model::kSpm) {
    ODMOE_ASSIGN_OR_RETURN(parts.spm, read_scores(account, parts.vocabulary));
    parts.add_space = true;
    if (account.has(kAddSpaceKey)) {
      ODMOE_ASSIGN_OR_RETURN(parts.add_space, account.get_bool(kAddSpaceKey));
    }
    ODMOE_ASSIGN_OR_RETURN(const bool strips, is_phi3(account));
    if (strips) parts.strips_white_after = tokens_that_strip(parts.vocabulary);
  } else {
    ODMOE_ASSIGN_OR_RETURN(parts.bpe, read_bpe(account, parts.vocabulary, kind.rule));
  }
  if (account.has(kNfcKey)) {
    ODMOE_ASSIGN_OR_RETURN(parts.to_nfc, account.get_bool(kNfcKey));
  }
  if (account.has(kTemplateKey)) {
    ODMOE_ASSIGN_OR_RETURN(parts.chat_template, account.get_string(kTemplateKey));
  }
  ODMOE_RETURN_IF_ERROR(read_special_tokens(account, kind, parts));
  return std::make_unique<TextTokenizer>(std::move(parts));
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool special) const {
  bool at_begin = add_space();
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string bytes = token_bytes(tokens[i], special);
    text += at_begin && bytes.starts_with(' ') ? std::string_view(bytes).substr(1) : bytes;
    at_begin = at_begin && i == 0 && add_bos() && tokens[i] == bos();
  }
  return text;
}

}  // namespace odmoe
