#include "convert/hf_tokenizer_family.h"

#include <algorithm>
#include <array>

namespace odmoe {
namespace {

struct FamilyRule {
  std::string_view architecture, rule, name;
};

// GLM's and OpenAI's vocabularies are made of ranks, with which words that are tokens are merged to
// themselves: looking them up first changes nothing.
constexpr auto kRules = std::to_array<FamilyRule>({
    {"glm4moe", "dbrx", "glm4"},
    {"glm4moe", "llama-bpe", "glm4"},
    {"minimax-m2", "gpt-4o", "minimax-m2"},
    {"olmoe", "gpt-2", "olmo"},
});

constexpr auto kGlm = std::to_array<HfFamilyToken>({
    {"bos", "[gMASK]"},
    {"eot", "<|user|>"},
    {"unk", "<|endoftext|>"},
    {"eom", "<|observation|>"},
});

}  // namespace

std::string hf_rule_of_family(std::string_view architecture, std::string_view rule) {
  const auto* const found = std::ranges::find_if(
      kRules, [&](const FamilyRule& it) { return it.architecture == architecture && it.rule == rule; });
  return std::string(found == kRules.end() ? rule : found->name);
}

std::span<const HfFamilyToken> hf_tokens_of_family(std::string_view architecture) {
  return architecture == "glm4moe" ? std::span<const HfFamilyToken>(kGlm) : std::span<const HfFamilyToken>();
}

bool hf_looks_special(std::string_view text) {
  constexpr std::string_view kWideBegin = "<｜";
  constexpr std::string_view kWideEnd = "｜>";
  return (text.size() > 3 && text.starts_with("<|") && text.ends_with("|>")) ||
         (text.size() >= kWideBegin.size() + kWideEnd.size() && text.starts_with(kWideBegin) &&
          text.ends_with(kWideEnd));
}

}  // namespace odmoe
