// The tokenizer of a checkpoint of Hugging Face as GGUF's keys (tokenizer.ggml.*, tokenizer.chat_template).
//
// Read are tokenizer.json (byte-level BPE), or tiktoken.model where there is none (Kimi), and beside it
// tokenizer_config.json, generation_config.json, special_tokens_map.json, chat_template.jinja.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "convert/hf_json.h"
#include "format/metadata_entry.h"
#include "odmoe/result.h"

namespace odmoe {

inline constexpr int64_t kMaxHfTokens = 1 << 20;

// What both forms come down to: texts in the byte alphabet (added tokens as they are), types as
// tokenizer.ggml.token_type numbers them, merges as "A B".
struct HfVocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
  std::vector<std::string> merges;
  std::string pre;                 // the splitting rule's name in GGUF: "qwen2"
  bool to_nfc = false;             // text is put into Unicode's composed form first
  bool template_adds_bos = false;  // the post-processor begins every text with a special token
};

// tokenizer.json.  `name` is what errors call it.
// Errors: kBadFile; kUnsupported for another model than BPE, a normalizer other than NFC, or a splitting rule
// that is not known, with those that are.
Result<HfVocabulary> parse_hf_tokenizer(const nlohmann::json& json, const std::string& name);

// tiktoken.model: lines of a token's bytes in base64 and its rank.  Merges are worked out from the ranks;
// added tokens are those of tokenizer_config.json's added_tokens_decoder.  `n_vocab`: tokens beyond those
// that are named are reserved.
Result<HfVocabulary> parse_tiktoken(std::string_view text, const nlohmann::json& tokenizer_config,
                                    int64_t n_vocab, const std::string& name);

// Reads all of a folder's.  `config` is what config.json says of the text model, which gives `n_vocab`: the
// rows of the embedding, to which the vocabulary is filled up. `architecture` is GGUF's name of the family
// (hf_tokenizer_family.h).  Errors: kNotFound (neither tokenizer.json nor
// tiktoken.model), kBadFile, kUnsupported, kIo.
Result<std::vector<MetadataEntry>> read_hf_tokenizer(const std::filesystem::path& folder,
                                                     const HfConfig& config, int64_t n_vocab,
                                                     std::string_view architecture);

}  // namespace odmoe
