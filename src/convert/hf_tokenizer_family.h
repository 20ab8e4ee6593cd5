// What llama.cpp's converter knows of the tokenizers of a family and their files do not say.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace odmoe {

// The name of a splitting rule in a family's files: one rule has several names in GGUF, by the vocabulary.
// `rule` is hf_split_rule()'s; returned as it is where the family has no other name for it.
std::string hf_rule_of_family(std::string_view architecture, std::string_view rule);

// A special token that a family's files do not name as such.
struct HfFamilyToken {
  std::string_view kind;  // "bos", "eot", "eom", "unk"
  std::string_view text;
};
std::span<const HfFamilyToken> hf_tokens_of_family(std::string_view architecture);

// Whether an added token that is not marked as special is one by its looks: "<|user|>".
bool hf_looks_special(std::string_view text);

}  // namespace odmoe
