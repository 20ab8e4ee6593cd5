#include "convert/hf_split_rule.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "format/printable.h"

namespace odmoe {
namespace {

// One step that divides text.  What tokenizer.json calls a ByteLevel step without a rule of its own divides
// nothing and is left out.
struct SplitStep {
  std::string_view kind;  // "Split", "Digits", "ByteLevel"
  std::string expression;
  bool drops_rest = false;  // what the expression does not match is left out
};

constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek-V3's three.
constexpr std::string_view kDigits3 = R"(\p{N}{1,3})";
constexpr std::string_view kCjk3 = "[一-龥\u3040-ゟ゠-ヿ]+";
constexpr std::string_view kWords3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek-LLM's and V2's; the class of letters is long, and its beginning tells it.
constexpr std::string_view kLines = "[\r\n]";
constexpr std::string_view kLettersBegin = "\\s?[A-Za-zµÀ-Ö";
constexpr std::string_view kPunctuation = "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+";
constexpr std::string_view kSpacesAtEnd = "\\s+$";

constexpr std::string_view kNames =
    "qwen2, qwen35, llama-bpe, gpt-4o, deepseek-v3, deepseek-llm, gpt-2 (and kimi-k2 with tiktoken.model)";

bool flag(const nlohmann::json& object, const char* key, bool otherwise) {
  const auto it = object.find(key);
  return it != object.end() && it->is_boolean() ? it->get<bool>() : otherwise;
}

// Adds a step; false for one that is not known.
bool add_step(const nlohmann::json& step, std::vector<SplitStep>& steps) {
  if (!step.is_object() || !step.contains("type") || !step["type"].is_string()) return false;
  const auto type = step["type"].get<std::string>();
  if (type == "ByteLevel") {
    if (flag(step, "add_prefix_space", false)) return false;
    if (flag(step, "use_regex", true)) steps.push_back({"ByteLevel", {}});
    return true;
  }
  if (type == "Digits") {
    if (!flag(step, "individual_digits", false)) return false;
    steps.push_back({"Digits", {}});
    return true;
  }
  if (type != "Split") return false;
  const auto pattern = step.find("pattern");
  const auto behavior = step.find("behavior");
  if (pattern == step.end() || !pattern->is_object() || !pattern->contains("Regex") ||
      !(*pattern)["Regex"].is_string() || behavior == step.end()) {
    return false;
  }
  const bool inverts = flag(step, "invert", false);
  const bool drops_rest = *behavior == "Removed" && inverts;
  if (!drops_rest && (*behavior != "Isolated" || inverts)) return false;
  steps.push_back({"Split", (*pattern)["Regex"].get<std::string>(), drops_rest});
  return true;
}

bool are(const std::vector<SplitStep>& steps, std::initializer_list<std::string_view> expressions) {
  return std::ranges::equal(steps, expressions, [](const SplitStep& step, std::string_view expression) {
    return step.kind == "Split" && step.expression == expression && !step.drops_rest;
  });
}

// A rule of one expression that matches all of any text, so that nothing is left to drop.
bool is_only(const std::vector<SplitStep>& steps, std::string_view expression) {
  return steps.size() == 1 && steps[0].kind == "Split" && steps[0].expression == expression;
}

bool is_deepseek_llm(const std::vector<SplitStep>& steps) {
  return steps.size() >= 6 && std::ranges::none_of(steps, &SplitStep::drops_rest) &&
         steps.back().kind == "Digits" && steps[0].expression == kLines &&
         steps[1].expression.starts_with(kLettersBegin) && steps[2].expression == kPunctuation &&
         steps[3].expression == kSpacesAtEnd;
}

std::optional<std::string> rule_of(const std::vector<SplitStep>& steps, bool ignore_merges) {
  if (is_only(steps, kQwen2)) return "qwen2";
  if (is_only(steps, kQwen35)) return "qwen35";
  if (is_only(steps, kGpt4o)) return "gpt-4o";
  // The same expression is used by vocabularies that merge first; llama-bpe looks whole words up first.
  if (is_only(steps, kLlama3)) return ignore_merges ? "llama-bpe" : "dbrx";
  if (are(steps, {kDigits3, kCjk3, kWords3})) return "deepseek-v3";
  if (is_deepseek_llm(steps)) return "deepseek-llm";
  if (steps.size() == 1 && steps[0].kind == "ByteLevel") return "gpt-2";
  return std::nullopt;
}

}  // namespace

Result<std::string> hf_split_rule(const nlohmann::json& pre_tokenizer, bool ignore_merges,
                                  const std::string& name) {
  std::vector<SplitStep> steps;
  bool known = pre_tokenizer.is_object();
  if (known && pre_tokenizer.value("type", nlohmann::json()) == "Sequence") {
    const auto list = pre_tokenizer.find("pretokenizers");
    known = list != pre_tokenizer.end() && list->is_array() && list->size() <= 32 &&
            std::ranges::all_of(*list, [&](const auto& step) { return add_step(step, steps); });
  } else if (known) {
    known = add_step(pre_tokenizer, steps);
  }
  if (known) {
    if (auto rule = rule_of(steps, ignore_merges); rule.has_value()) return *std::move(rule);
  }
  const auto split = std::ranges::find(steps, "Split", &SplitStep::kind);
  return fail(
      ErrorKind::kUnsupported,
      "{}: its pre_tokenizer{} is not a splitting rule that odmoe knows; it knows {}", name,
      split == steps.end() ? "" : odmoe::format(", which begins '{}',", printable(split->expression, 60)),
      kNames);
}

}  // namespace odmoe
