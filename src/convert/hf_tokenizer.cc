#include "convert/hf_tokenizer.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/base64.h"
#include "base/byte_alphabet.h"
#include "convert/hf_split_rule.h"
#include "convert/hf_tokenizer_family.h"
#include "format/printable.h"

namespace odmoe {
namespace {

// As tokenizer.ggml.token_type numbers them.
constexpr int64_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

std::optional<int64_t> token_id(const nlohmann::json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const auto id = value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)
                      ? int64_t{-1}
                      : value.get<int64_t>();
  return id >= 0 && id < kMaxHfTokens ? std::optional(id) : std::nullopt;
}

// Puts tokens at their ids, which may come in any order.
class TokenList {
 public:
  explicit TokenList(HfVocabulary& vocabulary) : v_(&vocabulary) {}

  void put(int64_t id, std::string text, int64_t type) {
    const auto i = static_cast<size_t>(id);
    if (i >= v_->tokens.size()) {
      v_->tokens.resize(i + 1);
      v_->types.resize(i + 1, 0);
    }
    v_->tokens[i] = std::move(text);
    v_->types[i] = type;
  }

 private:
  HfVocabulary* v_;
};

// Ids that nothing was said of are tokens too: the embedding has a row for each.
void fill_gaps(HfVocabulary& v, int64_t n_vocab) {
  const auto size = std::max(v.tokens.size(), static_cast<size_t>(n_vocab));
  v.tokens.resize(size);
  v.types.resize(size, 0);
  for (size_t i = 0; i < size; ++i) {
    if (v.types[i] != 0) continue;
    v.tokens[i] = odmoe::format("[PAD{}]", i);
    v.types[i] = kUnused;
  }
}

// "A B" of a merge, which newer files write as a pair.
std::optional<std::string> merge_text(const nlohmann::json& merge) {
  if (merge.is_string()) {
    auto text = merge.get<std::string>();
    const size_t space = text.find(' ');
    const bool one_space = space != std::string::npos && text.find(' ', space + 1) == std::string::npos;
    return one_space ? std::optional(std::move(text)) : std::nullopt;
  }
  if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string())
    return std::nullopt;
  std::string text = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  return std::ranges::count(text, ' ') == 1 ? std::optional(std::move(text)) : std::nullopt;
}

// Whether a post-processor puts a special token before every text.
bool adds_bos(const nlohmann::json& processor, int depth = 0) {
  if (!processor.is_object() || depth > 4) return false;
  const nlohmann::json type = processor.value("type", nlohmann::json());
  if (type == "Sequence") {
    const auto list = processor.find("processors");
    return list != processor.end() && list->is_array() &&
           std::ranges::any_of(*list, [&](const auto& it) { return adds_bos(it, depth + 1); });
  }
  if (type != "TemplateProcessing") return false;
  const auto single = processor.find("single");
  return single != processor.end() && single->is_array() && !single->empty() && (*single)[0].is_object() &&
         (*single)[0].contains("SpecialToken");
}

using Ranks = std::unordered_map<std::string, int64_t>;

// The two parts whose merge made a token: what byte-pair encoding leaves when only lower ranks may merge.
std::optional<std::pair<std::string, std::string>> parts_of(const Ranks& ranks, const std::string& token,
                                                            int64_t rank) {
  std::vector<std::string> parts;
  for (const char c : token) parts.emplace_back(1, c);
  while (parts.size() > 2) {
    int64_t best = rank;
    size_t at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto it = ranks.find(parts[i] + parts[i + 1]);
      if (it != ranks.end() && it->second < best) {
        best = it->second;
        at = i;
      }
    }
    if (best == rank) return std::nullopt;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  return std::pair(parts[0], parts[1]);
}

// The text of a special token, which is given as text or as an object with its content.
std::optional<std::string> special_text(const nlohmann::json* value) {
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  if (value->is_object()) {
    const auto content = value->find("content");
    if (content != value->end() && content->is_string()) return content->get<std::string>();
  }
  return std::nullopt;
}

Result<HfConfig> optional_config(const std::filesystem::path& path) {
  ODMOE_ASSIGN_OR_RETURN(auto json, read_optional_json(path, kMaxConfigBytes));
  return HfConfig(json ? std::move(*json) : nlohmann::json::object(), printable_path(path));
}

// The chat template: a file of its own, or in tokenizer_config.json as text or as a list with names.
Result<std::optional<std::string>> chat_template(const std::filesystem::path& folder,
                                                 const HfConfig& config) {
  Result<std::string> text = read_text_file(folder / "chat_template.jinja", kMaxConfigBytes);
  if (text.has_value()) return *std::move(text);
  if (text.error().kind != ErrorKind::kNotFound) return std::unexpected(std::move(text).error());
  ODMOE_ASSIGN_OR_RETURN(const HfConfig own, optional_config(folder / "chat_template.json"));
  for (const nlohmann::json* value : {own.find("chat_template"), config.find("chat_template")}) {
    if (value == nullptr) continue;
    if (value->is_string()) return value->get<std::string>();
    if (!value->is_array()) continue;
    for (const auto& named : *value) {
      if (named.is_object() && named.value("name", nlohmann::json()) == "default" &&
          named.contains("template") && named["template"].is_string()) {
        return named["template"].get<std::string>();
      }
    }
  }
  return std::nullopt;
}

struct SpecialIds {
  std::map<std::string, int64_t, std::less<>> ids;  // "bos" -> id
  std::vector<int64_t> ends;                        // other tokens that end a text
};

// tokenizer_config.json names tokens, the others give ids; the first that knows one is believed, as llama.cpp
// does it, but for what it knows of the family itself.
SpecialIds special_ids(const HfVocabulary& v, const HfConfig& tokenizer_config, const HfConfig& special_map,
                       const HfConfig& config, const HfConfig& generation, std::string_view architecture) {
  SpecialIds result;
  std::map<std::string_view, int64_t> added;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    if (v.types[i] == kControl || v.types[i] == kUserDefined)
      added.emplace(v.tokens[i], static_cast<int64_t>(i));
  }
  for (const HfFamilyToken& token : hf_tokens_of_family(architecture)) {
    const auto it = added.find(token.text);
    if (it != added.end()) result.ids.emplace(token.kind, it->second);
  }
  for (const char* kind : {"bos", "eos", "pad", "unk"}) {
    const std::string token_key = std::string(kind) + "_token";
    for (const HfConfig* file : {&tokenizer_config, &special_map}) {
      const std::optional<std::string> text = special_text(file->find(token_key));
      const auto it = text ? added.find(*text) : added.end();
      if (it != added.end()) result.ids.emplace(kind, it->second);
    }
    for (const HfConfig* file : {&config, &generation}) {
      const nlohmann::json* value = file->find(token_key + "_id");
      if (value != nullptr && value->is_array() && !value->empty()) value = &(*value)[0];
      const std::optional<int64_t> id = value == nullptr ? std::nullopt : token_id(*value);
      if (id && *id < static_cast<int64_t>(v.tokens.size())) result.ids.emplace(kind, *id);
    }
  }
  const auto eos = result.ids.find("eos");
  for (const HfConfig* file : {&generation, &config}) {
    const nlohmann::json* value = file->find("eos_token_id");
    if (value == nullptr) continue;
    for (const auto& it : value->is_array() ? *value : nlohmann::json::array({*value})) {
      const std::optional<int64_t> id = token_id(it);
      if (id && *id < static_cast<int64_t>(v.tokens.size()) && eos != result.ids.end() &&
          *id != eos->second && !std::ranges::contains(result.ends, *id)) {
        result.ends.push_back(*id);
      }
    }
  }
  // GGUF has two keys for those beside "eos".
  constexpr std::array kEnds = {"eot", "eom"};
  for (size_t i = 0; i < std::min(result.ends.size(), kEnds.size()); ++i) {
    result.ids.emplace(kEnds.at(i), result.ends[i]);
  }
  return result;
}

Result<HfVocabulary> read_vocabulary(const std::filesystem::path& folder, const HfConfig& tokenizer_config,
                                     int64_t n_vocab) {
  const std::filesystem::path json_path = folder / "tokenizer.json";
  ODMOE_ASSIGN_OR_RETURN(const auto json, read_optional_json(json_path, kMaxTokenizerBytes));
  if (json) return parse_hf_tokenizer(*json, printable_path(json_path));
  const std::filesystem::path tiktoken_path = folder / "tiktoken.model";
  Result<std::string> text = read_text_file(tiktoken_path, kMaxTokenizerBytes);
  if (text.has_value())
    return parse_tiktoken(*text, tokenizer_config.json(), n_vocab, printable_path(tiktoken_path));
  if (text.error().kind != ErrorKind::kNotFound) return std::unexpected(std::move(text).error());
  return fail(ErrorKind::kNotFound, "{} has no tokenizer.json (or tiktoken.model): download it too",
              printable_path(folder));
}

// Whether text is normalised to NFC before anything else; other normalizers are refused.
Result<bool> asks_for_nfc(const nlohmann::json& json, const std::string& name) {
  const auto normalizer = json.find("normalizer");
  if (normalizer == json.end() || normalizer->is_null()) return false;
  nlohmann::json steps = nlohmann::json::array({*normalizer});
  if (normalizer->is_object() && normalizer->value("type", nlohmann::json()) == "Sequence") {
    steps = normalizer->value("normalizers", nlohmann::json());
  }
  const auto is_nfc = [](const nlohmann::json& step) {
    return step.is_object() && step.value("type", nlohmann::json()) == "NFC";
  };
  if (steps.is_array() && std::ranges::all_of(steps, is_nfc)) return !steps.empty();
  return fail(ErrorKind::kUnsupported, "{}: its normalizer is not supported: only NFC is", name);
}

}  // namespace

Result<HfVocabulary> parse_hf_tokenizer(const nlohmann::json& json, const std::string& name) {
  const auto bad = [&](std::string_view what) {
    return fail(ErrorKind::kBadFile, "{} {}: it is damaged; download it again", name, what);
  };
  const auto model = json.find("model");
  if (model == json.end() || !model->is_object()) return bad("has no model");
  const nlohmann::json type = model->value("type", nlohmann::json());
  const auto vocab = model->find("vocab");
  const auto merges = model->find("merges");
  if (type != "BPE" || model->value("byte_fallback", nlohmann::json()) == true) {
    return fail(ErrorKind::kUnsupported, "{}: the tokenizer is {}; only byte-level BPE is read", name,
                type.is_string() ? printable(type.get<std::string>(), 40) : "of no known kind");
  }
  if (vocab == model->end() || !vocab->is_object() || merges == model->end() || !merges->is_array()) {
    return bad("has no vocab or no merges");
  }
  HfVocabulary v;
  TokenList list(v);
  for (const auto& [text, value] : vocab->items()) {
    const std::optional<int64_t> id = token_id(value);
    if (!id) return bad(odmoe::format("gives token '{}' a number that is out of range", printable(text, 40)));
    list.put(*id, text, kNormal);
  }
  if (const auto added = json.find("added_tokens"); added != json.end() && added->is_array()) {
    for (const auto& token : *added) {
      const auto content = token.is_object() ? token.find("content") : token.end();
      const auto number = token.is_object() ? token.find("id") : token.end();
      if (!token.is_object() || content == token.end() || !content->is_string() || number == token.end() ||
          !token_id(*number)) {
        return bad("has an added token without content or id");
      }
      auto content_text = content->get<std::string>();
      const bool special = token.value("special", nlohmann::json()) == true || hf_looks_special(content_text);
      list.put(*token_id(*number), std::move(content_text), special ? kControl : kUserDefined);
    }
  }
  v.merges.reserve(merges->size());
  for (const auto& merge : *merges) {
    std::optional<std::string> text = merge_text(merge);
    if (!text) return bad("has a merge that is not a pair of tokens");
    v.merges.push_back(*std::move(text));
  }
  const auto pre = json.find("pre_tokenizer");
  ODMOE_ASSIGN_OR_RETURN(v.pre, hf_split_rule(pre == json.end() ? nlohmann::json() : *pre,
                                              model->value("ignore_merges", nlohmann::json()) == true, name));
  ODMOE_ASSIGN_OR_RETURN(v.to_nfc, asks_for_nfc(json, name));
  if (const auto processor = json.find("post_processor"); processor != json.end()) {
    v.template_adds_bos = adds_bos(*processor);
  }
  return v;
}

Result<HfVocabulary> parse_tiktoken(std::string_view text, const nlohmann::json& tokenizer_config,
                                    int64_t n_vocab, const std::string& name) {
  constexpr size_t kMaxTokenBytes = 1024;  // working out merges takes the square of it
  const auto bad = [&](size_t line, std::string_view what) {
    return fail(ErrorKind::kBadFile, "{}: line {} {}: it is damaged; download it again", name, line, what);
  };
  Ranks ranks;
  std::map<int64_t, std::string> by_rank;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = text.find('\n');
    const std::string_view row = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (row.empty()) continue;
    const size_t space = row.find(' ');
    std::optional<std::string> bytes = decode_base64(row.substr(0, space), kMaxTokenBytes);
    if (space == std::string_view::npos || !bytes || bytes->empty()) {
      return bad(line, "is not a token in base64 with its rank");
    }
    int64_t rank = 0;
    for (const char c : row.substr(space + 1)) {
      if (c == '\r') break;
      if (c < '0' || c > '9' || rank >= kMaxHfTokens) return bad(line, "has no rank");
      rank = rank * 10 + (c - '0');
    }
    if (rank >= kMaxHfTokens) return bad(line, "has no rank");
    if (!by_rank.emplace(rank, *bytes).second || !ranks.emplace(*std::move(bytes), rank).second) {
      return bad(line, "repeats a token or a rank");
    }
  }
  HfVocabulary v;
  v.pre = "kimi-k2";  // the only publisher of this form that is known here
  TokenList list(v);
  for (const auto& [rank, bytes] : by_rank) {
    list.put(rank, to_byte_alphabet(bytes), kNormal);
    if (bytes.size() < 2) continue;
    const auto parts = parts_of(ranks, bytes, rank);
    // A token that no merge makes is only found whole; none of Kimi's is.
    if (parts) v.merges.push_back(to_byte_alphabet(parts->first) + " " + to_byte_alphabet(parts->second));
  }
  const auto first_added = static_cast<int64_t>(v.tokens.size());
  for (int64_t id = first_added; id < n_vocab; ++id) {
    list.put(id, odmoe::format("<|reserved_token_{}|>", id), kControl);
  }
  const auto added = tokenizer_config.find("added_tokens_decoder");
  if (added != tokenizer_config.end() && added->is_object()) {
    for (const auto& [key, token] : added->items()) {
      const nlohmann::json number = nlohmann::json::parse(key, nullptr, /*allow_exceptions=*/false);
      const std::optional<std::string> content = special_text(&token);
      const std::optional<int64_t> id = number.is_discarded() ? std::nullopt : token_id(number);
      if (!id || !content || *id < first_added || *id >= std::max(first_added, n_vocab)) {
        return fail(
            ErrorKind::kBadFile,
            "{}: tokenizer_config.json adds token '{}', which is not a number from {} to {}; download "
            "both again",
            name, printable(key, 40), first_added, n_vocab - 1);
      }
      list.put(*id, *content, kControl);
    }
  }
  return v;
}

Result<std::vector<MetadataEntry>> read_hf_tokenizer(const std::filesystem::path& folder,
                                                     const HfConfig& config, int64_t n_vocab,
                                                     std::string_view architecture) {
  ODMOE_ASSIGN_OR_RETURN(const HfConfig tokenizer_config, optional_config(folder / "tokenizer_config.json"));
  ODMOE_ASSIGN_OR_RETURN(const HfConfig special_map, optional_config(folder / "special_tokens_map.json"));
  ODMOE_ASSIGN_OR_RETURN(const HfConfig generation, optional_config(folder / "generation_config.json"));
  ODMOE_ASSIGN_OR_RETURN(HfVocabulary v, read_vocabulary(folder, tokenizer_config, n_vocab));
  if (static_cast<int64_t>(v.tokens.size()) > n_vocab) {
    return fail(ErrorKind::kBadFile,
                "{}: the tokenizer has {} tokens, but the embedding only {} rows; are they of one model?",
                printable_path(folder), v.tokens.size(), n_vocab);
  }
  fill_gaps(v, n_vocab);
  const SpecialIds special = special_ids(v, tokenizer_config, special_map, config, generation, architecture);
  ODMOE_ASSIGN_OR_RETURN(const bool add_bos,
                         tokenizer_config.boolean_or("add_bos_token", v.template_adds_bos));
  ODMOE_ASSIGN_OR_RETURN(auto chat, chat_template(folder, tokenizer_config));

  std::vector<MetadataEntry> entries;
  entries.push_back(MetadataEntry::string("tokenizer.ggml.model", "gpt2"));
  entries.push_back(MetadataEntry::string("tokenizer.ggml.pre", hf_rule_of_family(architecture, v.pre)));
  entries.push_back(MetadataEntry::strings("tokenizer.ggml.tokens", std::move(v.tokens)));
  entries.push_back(MetadataEntry::i32s("tokenizer.ggml.token_type", std::move(v.types)));
  entries.push_back(MetadataEntry::strings("tokenizer.ggml.merges", std::move(v.merges)));
  constexpr std::array kKeys = {std::pair{"bos", "tokenizer.ggml.bos_token_id"},
                                std::pair{"eos", "tokenizer.ggml.eos_token_id"},
                                std::pair{"eot", "tokenizer.ggml.eot_token_id"},
                                std::pair{"eom", "tokenizer.ggml.eom_token_id"},
                                std::pair{"pad", "tokenizer.ggml.padding_token_id"},
                                std::pair{"unk", "tokenizer.ggml.unknown_token_id"}};
  for (const auto& [kind, key] : kKeys) {
    const auto it = special.ids.find(kind);
    if (it != special.ids.end())
      entries.push_back(MetadataEntry::u32(key, static_cast<uint32_t>(it->second)));
  }
  entries.push_back(
      MetadataEntry::boolean("tokenizer.ggml.add_bos_token", add_bos && special.ids.contains("bos")));
  if (v.to_nfc) entries.push_back(MetadataEntry::boolean("tokenizer.ggml.normalizer.nfc", true));
  if (chat) entries.push_back(MetadataEntry::string("tokenizer.chat_template", *std::move(chat)));
  return entries;
}

}  // namespace odmoe
