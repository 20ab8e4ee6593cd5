// MiniMax-M2 and M2.1 as Hugging Face has them; experts and their router have Mixtral's names.
#include <algorithm>

#include "convert/hf_common.h"
#include "convert/hf_rope.h"
#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// What published models say in one way, and GGUF in none.
void refuse_other_minimax(HfModelBuilder& b) {
  const HfConfig& config = b.config();
  if (!b.value_or_fail(config.boolean_or("use_routing_bias", true))) b.refuse("use_routing_bias is false");
  if (!b.value_or_fail(config.boolean_or("use_qk_norm", true))) b.refuse("use_qk_norm is false");
  refuse_other_normalisation(b, /*normalises=*/true, /*otherwise=*/true);
  // Of a layer, that is over all its heads together.
  const std::string norm = b.value_or_fail(config.string_or("qk_norm_type", "per_layer"));
  if (norm != "per_layer") b.refuse(odmoe::format("qk_norm_type is '{}'", printable(norm, 40)));
  if (b.value_or_fail(config.integer_or("shared_intermediate_size", 0, 0, 1 << 20)) != 0) {
    b.refuse("shared_intermediate_size names a shared expert");
  }
  if (config.has("sliding_window")) b.refuse("sliding_window is set");
  if (const nlohmann::json* types = config.find("attn_type_list"); types != nullptr) {
    const bool full =
        types->is_array() && std::ranges::all_of(*types, [](const auto& it) { return it == 1; });
    if (!full) b.refuse("attn_type_list names layers without full attention");
  }
}

}  // namespace

void map_minimax_m2(HfModelBuilder& b, const std::string& prefix) {
  const HfConfig& config = b.config();
  const HfCommon c = map_common(b, prefix);
  refuse_other_minimax(b);
  const HfHeads heads = map_heads(b, c);
  const HfExperts experts{.n_expert = map_expert_counts(b),
                          .n_ff = b.value_or_fail(config.integer("intermediate_size", 1, 1 << 20))};
  b.set_u32("feed_forward_length", experts.n_ff);
  b.set_u32("expert_feed_forward_length", experts.n_ff);
  const std::string scoring = b.value_or_fail(config.string_or("scoring_func", "sigmoid"));
  if (scoring != "sigmoid") b.refuse(odmoe::format("scoring_func is '{}'", printable(scoring, 40)));
  b.set_u32("expert_gating_func", 2);
  map_rope(b);
  // transformers 5 has the part of the head; the published files its dimensions.
  if (config.has("rotary_dim")) {
    b.set_u32("rope.dimension_count", b.value_or_fail(config.integer("rotary_dim", 2, heads.head_dim)));
  } else {
    map_rope_part(b, heads.head_dim, 1);
  }

  for (int64_t i = 0; i < c.n_layer && !b.failed(); ++i) {
    const HfLayer layer = map_gqa_layer(b, c, heads, prefix, i);
    const std::string moe = layer.source + "block_sparse_moe";
    map_qk_norms(b, layer.block, layer.attention, heads.n_query(), heads.n_key());
    map_routed(b, layer.block, moe, c.n_embd, experts, /*numbered=*/true);
    b.add_vector(layer.block + "exp_probs_b.bias", moe + ".e_score_correction_bias", experts.n_expert);
  }
}

}  // namespace odmoe
