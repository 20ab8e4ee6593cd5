// GLM-4.5, GLM-4.6 and GLM-4.5-Air (arXiv:2508.06471) as Hugging Face has them.
#include "convert/hf_common.h"
#include "convert/hf_rope.h"

namespace odmoe {
namespace {

struct GlmMoe {
  HfExperts experts;
  int64_t n_ff = 0, n_dense = 0, n_shared = 0;
};

GlmMoe read_glm_moe(HfModelBuilder& b, const HfCommon& c) {
  const HfConfig& config = b.config();
  GlmMoe moe;
  moe.experts.n_expert = b.value_or_fail(config.integer("n_routed_experts", 1, 4096));
  moe.experts.n_ff = b.value_or_fail(config.integer("moe_intermediate_size", 1, 1 << 20));
  moe.n_ff = b.value_or_fail(config.integer("intermediate_size", 1, 1 << 20));
  moe.n_dense = b.value_or_fail(config.integer_or("first_k_dense_replace", 1, 0, c.n_layer));
  moe.n_shared = b.value_or_fail(config.integer_or("n_shared_experts", 1, 1, 1024));
  b.set_u32("feed_forward_length", moe.n_ff);
  b.set_u32("leading_dense_block_count", moe.n_dense);
  b.set_u32("expert_count", moe.experts.n_expert);
  b.set_u32("expert_used_count", b.value_or_fail(config.integer("num_experts_per_tok", 1, 4096)));
  b.set_u32("expert_feed_forward_length", moe.experts.n_ff);
  b.set_u32("expert_shared_count", moe.n_shared);
  b.set_u32("expert_gating_func", 2);  // a sigmoid, which config.json has no word for
  b.set_f32("expert_weights_scale", b.value_or_fail(config.number_or("routed_scaling_factor", 1)));
  b.set_bool("expert_weights_norm", b.value_or_fail(config.boolean_or("norm_topk_prob", true)));
  const int64_t groups = b.value_or_fail(config.integer_or("n_group", 1, 1, 4096));
  if (groups > 1) {
    b.set_u32("expert_group_count", groups);
    b.set_u32("expert_group_used_count", b.value_or_fail(config.integer("topk_group", 1, groups)));
  }
  return moe;
}

}  // namespace

void map_glm4_moe(HfModelBuilder& b, const std::string& prefix) {
  const HfConfig& config = b.config();
  const HfCommon c = map_common(b, prefix);
  const HfHeads heads = map_heads(b, c);
  const GlmMoe moe = read_glm_moe(b, c);
  map_rope(b);
  map_rope_part(b, heads.head_dim, 0.5);
  const bool biases = b.value_or_fail(config.boolean_or("attention_bias", false));
  const bool norms = b.value_or_fail(config.boolean_or("use_qk_norm", false));

  for (int64_t i = 0; i < c.n_layer && !b.failed(); ++i) {
    const HfLayer layer = map_gqa_layer(b, c, heads, prefix, i, "post_attention_norm");
    if (biases) map_qkv_biases(b, heads, layer.block, layer.attention);
    if (norms) map_qk_norms(b, layer.block, layer.attention, heads.head_dim, heads.head_dim);
    if (i < moe.n_dense) {
      map_ffn(b, layer.block, "", layer.mlp, c.n_embd, moe.n_ff);
      continue;
    }
    map_routed(b, layer.block, layer.mlp, c.n_embd, moe.experts);
    b.add_vector(layer.block + "exp_probs_b.bias", layer.mlp + ".gate.e_score_correction_bias",
                 moe.experts.n_expert);
    map_ffn(b, layer.block, "_shexp", layer.mlp + ".shared_experts", c.n_embd,
            moe.experts.n_ff * moe.n_shared);
  }
}

}  // namespace odmoe
