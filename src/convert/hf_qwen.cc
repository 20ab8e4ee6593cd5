// Qwen2Moe (Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B) and Qwen3Moe (30B-A3B, 235B-A22B) as Hugging Face has them.
#include "convert/hf_common.h"
#include "convert/hf_rope.h"

namespace odmoe {
namespace {

void map_qwen(HfModelBuilder& b, const std::string& prefix, bool qwen3) {
  const HfConfig& config = b.config();
  const HfCommon c = map_common(b, prefix);
  refuse_dense_layers(b);
  if (b.value_or_fail(config.boolean_or("use_sliding_window", false))) b.refuse("use_sliding_window is set");
  refuse_other_normalisation(b, /*normalises=*/qwen3, /*otherwise=*/false);
  const HfHeads heads = map_heads(b, c);
  const HfExperts experts{.n_expert = map_expert_counts(b),
                          .n_ff = b.value_or_fail(config.integer("moe_intermediate_size", 1, 1 << 20))};
  const int64_t n_ff_shared =
      qwen3 ? 0 : b.value_or_fail(config.integer("shared_expert_intermediate_size", 1, 1 << 20));
  b.set_u32("feed_forward_length", b.value_or_fail(config.integer("intermediate_size", 1, 1 << 20)));
  b.set_u32("expert_feed_forward_length", experts.n_ff);
  if (!qwen3) b.set_u32("expert_shared_feed_forward_length", n_ff_shared);
  map_rope(b);

  for (int64_t i = 0; i < c.n_layer && !b.failed(); ++i) {
    const HfLayer layer = map_gqa_layer(b, c, heads, prefix, i);
    if (qwen3) {
      map_qk_norms(b, layer.block, layer.attention, heads.head_dim, heads.head_dim);
    } else {
      map_qkv_biases(b, heads, layer.block, layer.attention);
    }
    map_routed(b, layer.block, layer.mlp, c.n_embd, experts);
    if (!qwen3) map_gated_shared_expert(b, layer.block, layer.mlp, c.n_embd, n_ff_shared);
  }
}

}  // namespace

void map_qwen2_moe(HfModelBuilder& builder, const std::string& prefix) { map_qwen(builder, prefix, false); }
void map_qwen3_moe(HfModelBuilder& builder, const std::string& prefix) { map_qwen(builder, prefix, true); }

}  // namespace odmoe
