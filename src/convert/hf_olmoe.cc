// OLMoE-1B-7B (arXiv:2409.02060) as Hugging Face has it.
#include "convert/hf_common.h"
#include "convert/hf_rope.h"

namespace odmoe {

void map_olmoe(HfModelBuilder& b, const std::string& prefix) {
  const HfConfig& config = b.config();
  const HfCommon c = map_common(b, prefix);
  refuse_other_normalisation(b, /*normalises=*/false, /*otherwise=*/false);
  if (config.has("clip_qkv")) b.refuse("clip_qkv is set");
  if (b.value_or_fail(config.boolean_or("attention_bias", false))) b.refuse("attention_bias is set");
  const HfHeads heads = map_heads(b, c);
  // The width is the experts': there is no other FFN.
  const HfExperts experts{.n_expert = map_expert_counts(b),
                          .n_ff = b.value_or_fail(config.integer("intermediate_size", 1, 1 << 20))};
  b.set_u32("feed_forward_length", experts.n_ff);
  map_rope(b);

  for (int64_t i = 0; i < c.n_layer && !b.failed(); ++i) {
    const HfLayer layer = map_gqa_layer(b, c, heads, prefix, i);
    map_qk_norms(b, layer.block, layer.attention, heads.n_query(), heads.n_key());
    map_routed(b, layer.block, layer.mlp, c.n_embd, experts);
  }
}

}  // namespace odmoe
