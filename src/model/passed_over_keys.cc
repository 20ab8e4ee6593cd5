#include "model/passed_over_keys.h"

#include <algorithm>
#include <array>

namespace odmoe {
namespace {

// What the value must be for the reason to hold.  Of arrays, each element.
enum class Value { kAny, kZero, kZeroOrOne, kFalse, kTrue, kEmpty };

struct Rule {
  std::string_view name;  // "*" at its end: whatever begins so
  Value value;
  std::string_view reason;
  std::string_view family;  // empty: every one
};

constexpr std::string_view kOff = "switched off by its value";
constexpr std::string_view kOne = "a factor that is 1 by its value";

// ARCH.NAME.  Whatever is not here is refused: that a key is unknown says nothing of what it does.
constexpr auto kFamilyKeys = std::to_array<Rule>({
    // What other keys or the tensors say.
    {"vocab_size", Value::kAny, "token_embd.weight says it"},
    {"attention.layer_norm_epsilon", Value::kAny,
     "the family's norms are RMS norms, which have a key of their own"},
    {"rope.scaling.finetuned", Value::kAny, "says how the model was trained"},
    {"rope.dimension_sections", Value::kAny, "all sections are rotated alike for text", "qwen2moe"},
    {"rope.dimension_sections", Value::kAny, "all sections are rotated alike for text", "qwen3moe"},
    {"rope.dimension_sections", Value::kAny, "all sections are rotated alike for text", "qwen3vlmoe"},
    {"rope.dimension_sections", Value::kAny, "all sections are rotated alike for text", "glm4moe"},
    {"rope.dimension_sections", Value::kAny, "all sections are rotated alike for text", "qwen35moe"},
    {"rope.dimension_sections", Value::kAny, "all sections are rotated alike for text", "qwen4exp"},
    // Converters write Mamba-2's count of groups, which Mamba has not.
    {"ssm.group_count", Value::kZero, kOff, "jamba"},
    {"n_deepstack_layers", Value::kAny, "images are not read", "qwen3vlmoe"},
    // What the family does anyway.
    {"attention.causal", Value::kTrue, "attention is causal"},
    {"rope.scaling.yarn_truncate", Value::kTrue, "YaRN's range is rounded to whole dimensions"},
    {"use_parallel_residual", Value::kFalse, kOff},
    {"swin_norm", Value::kFalse, kOff},
    // What the family does not have, switched off.
    {"pooling_type", Value::kZero, kOff},
    {"classifier.output_labels", Value::kEmpty, kOff},
    {"attention.clamp_kqv", Value::kZero, kOff},
    {"attention.max_alibi_bias", Value::kZero, kOff},
    {"attention.scale", Value::kZero, kOff},
    {"attention.sliding_window", Value::kZero, kOff},
    {"attention.sliding_window_pattern", Value::kZero, kOff},
    {"attention.shared_kv_layers", Value::kZero, kOff},
    {"attention.recurrent_layers", Value::kZero, kOff},
    {"attention.temperature_scale", Value::kZero, kOff},
    {"attention.temperature_length", Value::kZero, kOff},
    {"attn_logit_softcapping", Value::kZero, kOff},
    {"router_logit_softcapping", Value::kZero, kOff},
    {"final_logit_softcapping", Value::kZero, kOff},
    {"swiglu_clamp_exp", Value::kZero, kOff},
    {"swiglu_clamp_shexp", Value::kZero, kOff},
    {"embedding_length_per_layer_input", Value::kZero, kOff},
    {"n_deepstack_layers", Value::kZero, kOff},
    {"rope.scaling.alpha", Value::kZero, kOff},
    {"rope.scaling.yarn_log_multiplier", Value::kZero, kOff},
    {"leading_dense_block_count", Value::kZero, kOff},
    {"logit_scale", Value::kZeroOrOne, kOne},
    {"residual_scale", Value::kZeroOrOne, kOne},
    {"embedding_scale", Value::kZeroOrOne, kOne},
    {"expert_weights_scale", Value::kZeroOrOne, kOne},
    {"attention.output_scale", Value::kZeroOrOne, kOne},
    {"attention.value_scale", Value::kZeroOrOne, kOne},
    {"moe_every_n_layers", Value::kZeroOrOne, "every layer has experts"},
    {"interleave_moe_layer_step", Value::kZeroOrOne, "every layer has experts"},
    {"full_attention_interval", Value::kZeroOrOne, "every layer has attention"},
});

// Whole keys.  The first that matches holds.
constexpr auto kOtherKeys = std::to_array<Rule>({
    {"general.tensor_extra.*", Value::kEmpty, kOff},
    {"general.sampling.*", Value::kAny, "advice on sampling: requests and options decide"},
    {"general.*", Value::kAny, "says where the file comes from and how it was made"},
    {"split.*", Value::kAny, "says how the file was split; its shards are found by name"},
    {"quantize.*", Value::kAny, "says how the file was quantised"},
    {"imatrix.*", Value::kAny, "says how the file was quantised"},
    // The tokenizers that there are have no such step or token, or read the key where they do.
    {"tokenizer.ggml.scores", Value::kAny, "the vocabulary goes by its merges"},
    {"tokenizer.ggml.token_type_count", Value::kAny, "of BERT's vocabularies"},
    {"tokenizer.ggml.unknown_token_id", Value::kAny, "every byte has a token"},
    {"tokenizer.ggml.seperator_token_id", Value::kAny, "a token that is never added"},
    {"tokenizer.ggml.padding_token_id", Value::kAny, "a token that is never added"},
    {"tokenizer.ggml.mask_token_id", Value::kAny, "a token that is never added"},
    {"tokenizer.ggml.cls_token_id", Value::kAny, "a token that is never added"},
    {"tokenizer.ggml.prefix_token_id", Value::kAny, "for filling in the middle, which is not supported"},
    {"tokenizer.ggml.suffix_token_id", Value::kAny, "for filling in the middle, which is not supported"},
    {"tokenizer.ggml.middle_token_id", Value::kAny, "for filling in the middle, which is not supported"},
    {"tokenizer.ggml.fim_pre_token_id", Value::kAny, "for filling in the middle, which is not supported"},
    {"tokenizer.ggml.fim_suf_token_id", Value::kAny, "for filling in the middle, which is not supported"},
    {"tokenizer.ggml.fim_mid_token_id", Value::kAny, "for filling in the middle, which is not supported"},
    {"tokenizer.ggml.add_sep_token", Value::kFalse, kOff},
    {"tokenizer.ggml.add_space_prefix", Value::kFalse, kOff},
    {"tokenizer.ggml.remove_extra_whitespaces", Value::kFalse, kOff},
    {"tokenizer.ggml.precompiled_charsmap", Value::kEmpty, kOff},
    {"tokenizer.ggml.suppress_tokens", Value::kEmpty, kOff},
    {"tokenizer.ggml.normalizer.*", Value::kFalse, kOff},
    {"tokenizer.chat_template*", Value::kAny, "another template than the one that is used"},
    {"tokenizer.huggingface.json", Value::kAny, "the same vocabulary in another form"},
    {"tokenizer.rwkv.world", Value::kAny, "the same vocabulary in another form"},
});

// Namespaces that say how models compute though they are no family's; nothing is passed over in them.
constexpr auto kRefused =
    std::to_array<std::string_view>({"tokenizer.", "general.tensor_extra.", "adapter.", "clip.", "diffusion.",
                                     "lilicorr.", "prism.", "xielu."});

bool matches(std::string_view pattern, std::string_view name) {
  if (!pattern.ends_with('*')) return pattern == name;
  return name.starts_with(pattern.substr(0, pattern.size() - 1));
}

// Whether `holds` is true of each element; false for what is not a number.
template <typename Holds>
bool each_number(const Checkpoint& file, std::string_view key, const Holds& holds) {
  const auto of_all = [&holds](const auto& numbers) {
    return std::ranges::all_of(numbers, [&holds](auto number) { return holds(static_cast<double>(number)); });
  };
  if (const auto numbers = file.get_ints(key)) return of_all(*numbers);
  if (const auto numbers = file.get_floats(key)) return of_all(*numbers);
  if (const auto flags = file.get_bools(key)) return of_all(*flags);
  return false;
}

bool has_value(const Checkpoint& file, std::string_view key, Value value) {
  switch (value) {
    case Value::kAny:
      return true;
    case Value::kZero:
    case Value::kFalse:
      return each_number(file, key, [](double number) { return number == 0; });
    case Value::kZeroOrOne:
      return each_number(file, key, [](double number) { return number == 0 || number == 1; });
    case Value::kTrue:
      return each_number(file, key, [](double number) { return number == 1; });
    case Value::kEmpty:
      // Any empty array is an empty one of strings.
      const auto strings = file.get_strings(key);
      return strings.has_value() && strings->empty();
  }
  return false;
}

}  // namespace

std::string_view reason_to_pass_over(const Checkpoint& file, std::string_view architecture,
                                     std::string_view key) {
  const bool of_family = key.starts_with(architecture) && key.substr(architecture.size()).starts_with('.');
  const std::string_view name = of_family ? key.substr(architecture.size() + 1) : key;
  const auto reason_in = [&](std::span<const Rule> rules) -> std::string_view {
    for (const Rule& rule : rules) {
      if (!matches(rule.name, name) || (!rule.family.empty() && rule.family != architecture)) continue;
      return has_value(file, key, rule.value) ? rule.reason : std::string_view();
    }
    return {};
  };
  if (of_family) return reason_in(kFamilyKeys);
  if (const std::string_view reason = reason_in(kOtherKeys); !reason.empty()) return reason;
  if (std::ranges::any_of(kRefused, [key](std::string_view space) { return key.starts_with(space); }))
    return {};
  return "of another namespace than the family's";
}

}  // namespace odmoe
