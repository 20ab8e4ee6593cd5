// DeepSeek-V2, V2-Lite, V3, R1 and Kimi-K2, K2.5 as Hugging Face has them (arXiv:2405.04434, 2412.19437).
#include "convert/hf_common.h"
#include "convert/hf_order.h"
#include "convert/hf_rope.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

struct Mla {
  int64_t q_lora = 0, kv_lora = 0, nope = 0, rope = 0, value = 0;
  bool halves = false;  // rope pairs are (i, i + n/2) in this checkpoint, not adjacent
};

Mla read_mla(HfModelBuilder& b) {
  const HfConfig& config = b.config();
  Mla mla;
  mla.q_lora = b.value_or_fail(config.integer_or("q_lora_rank", 0, 0, 1 << 16));
  mla.kv_lora = b.value_or_fail(config.integer("kv_lora_rank", 1, 1 << 12));
  mla.nope = b.value_or_fail(config.integer("qk_nope_head_dim", 1, 1 << 12));
  mla.rope = b.value_or_fail(config.integer("qk_rope_head_dim", 2, 1 << 12));
  mla.value = b.value_or_fail(config.integer("v_head_dim", 1, 1 << 12));
  mla.halves = !b.value_or_fail(config.boolean_or("rope_interleave", true));
  if (mla.q_lora > 0) b.set_u32("attention.q_lora_rank", mla.q_lora);
  b.set_u32("attention.kv_lora_rank", mla.kv_lora);
  // What the cache holds, with one head of keys and values for all; then the heads' own lengths.
  b.set_u32("attention.head_count_kv", 1);
  b.set_u32("attention.key_length", mla.kv_lora + mla.rope);
  b.set_u32("attention.value_length", mla.kv_lora);
  b.set_u32("attention.key_length_mla", mla.nope + mla.rope);
  b.set_u32("attention.value_length_mla", mla.value);
  b.set_u32("rope.dimension_count", mla.rope);
  return mla;
}

void map_attention(HfModelBuilder& b, const Mla& mla, const HfCommon& c, const std::string& block,
                   const std::string& source) {
  const int64_t n_q = (mla.nope + mla.rope) * c.n_head;
  HfTarget* q = nullptr;
  if (mla.q_lora > 0) {
    b.add_matrix(block + "attn_q_a.weight", source + "q_a_proj", c.n_embd, mla.q_lora);
    b.add_vector(block + "attn_q_a_norm.weight", source + "q_a_layernorm.weight", mla.q_lora);
    q = b.add_matrix(block + "attn_q_b.weight", source + "q_b_proj", mla.q_lora, n_q);
  } else {
    q = b.add_matrix(block + "attn_q.weight", source + "q_proj", c.n_embd, n_q);
  }
  if (q != nullptr && mla.halves) q->row_order = hf_rope_pairs(n_q, mla.nope + mla.rope, mla.nope);
  HfTarget* kv_a = b.add_matrix(block + "attn_kv_a_mqa.weight", source + "kv_a_proj_with_mqa", c.n_embd,
                                mla.kv_lora + mla.rope);
  if (kv_a != nullptr && mla.halves) {
    kv_a->row_order = hf_rope_pairs(mla.kv_lora + mla.rope, mla.kv_lora + mla.rope, mla.kv_lora);
  }
  b.add_vector(block + "attn_kv_a_norm.weight", source + "kv_a_layernorm.weight", mla.kv_lora);
  b.add_matrix(block + "attn_output.weight", source + "o_proj", c.n_head * mla.value, c.n_embd);
  if (b.failed()) return;

  // mlx-lm splits kv_b and stores both stacked by head, as GGUF wants them.
  if (b.has(source + "embed_q.weight")) {
    b.add_stack(block + "attn_k_b.weight", source + "embed_q", mla.nope, mla.kv_lora, c.n_head);
    b.add_stack(block + "attn_v_b.weight", source + "unembed_out", mla.kv_lora, mla.value, c.n_head);
    return;
  }
  // kv_b has, per head, the rows that make its keys and then those that make its values, of kv_lora each.
  // Absorbed attention multiplies queries by the first from the left, so these are stored transposed.
  Result<HfWeight> kv_b = b.weight(source + "kv_b_proj");
  if (!kv_b.has_value()) return b.fail_with(std::move(kv_b).error());
  const int64_t head_rows = mla.nope + mla.value;
  if (kv_b->rows != head_rows * c.n_head || kv_b->columns != mla.kv_lora) {
    return b.fail_with(
        {ErrorKind::kBadFile,
         odmoe::format("{}: '{}' has {} rows of {}; {} of {} were expected", b.config().name(), kv_b->name,
                       kv_b->rows, kv_b->columns, head_rows * c.n_head, mla.kv_lora)});
  }
  b.add({.name = block + "attn_k_b.weight",
         .ne = {mla.nope, mla.kv_lora, c.n_head},
         .weights = {*kv_b},
         .matrix_rows = head_rows,
         .transposed = true});
  b.add({.name = block + "attn_v_b.weight",
         .ne = {mla.kv_lora, mla.value, c.n_head},
         .weights = {*std::move(kv_b)},
         .matrix_rows = head_rows,
         .first_row = mla.nope});
}

struct Moe {
  int64_t n_expert = 0, n_ff = 0, n_ff_exp = 0, n_shared = 0, n_dense = 0;
};

Moe read_moe(HfModelBuilder& b, const HfCommon& c) {
  const HfConfig& config = b.config();
  const std::string model_type = b.value_or_fail(config.string_or("model_type", "deepseek_v3"));
  const bool v2 = model_type == "deepseek_v2";
  Moe moe;
  moe.n_expert = b.value_or_fail(config.integer("n_routed_experts", 1, 4096));
  moe.n_ff = b.value_or_fail(config.integer("intermediate_size", 1, 1 << 20));
  moe.n_ff_exp = b.value_or_fail(config.integer("moe_intermediate_size", 1, 1 << 20));
  moe.n_shared = b.value_or_fail(config.integer_or("n_shared_experts", 0, 0, 1024));
  moe.n_dense = b.value_or_fail(config.integer_or("first_k_dense_replace", 0, 0, c.n_layer));
  if (b.value_or_fail(config.integer_or("moe_layer_freq", 1, 0, 1 << 20)) != 1)
    b.refuse("moe_layer_freq is not 1");
  if (b.value_or_fail(config.boolean_or("attention_bias", false))) b.refuse("attention_bias is set");
  b.set_u32("feed_forward_length", moe.n_ff);
  b.set_u32("leading_dense_block_count", moe.n_dense);
  b.set_u32("expert_count", moe.n_expert);
  b.set_u32("expert_used_count", b.value_or_fail(config.integer("num_experts_per_tok", 1, 4096)));
  b.set_u32("expert_feed_forward_length", moe.n_ff_exp);
  b.set_u32("expert_shared_count", moe.n_shared);
  b.set_f32("expert_weights_scale", b.value_or_fail(config.number_or("routed_scaling_factor", 1)));
  b.set_bool("expert_weights_norm", b.value_or_fail(config.boolean_or("norm_topk_prob", !v2)));
  // transformers' own class of V3 knows only the sigmoid and does not say so.
  const std::string scoring = b.value_or_fail(config.string_or("scoring_func", v2 ? "softmax" : "sigmoid"));
  if (scoring != "sigmoid" && scoring != "softmax") b.refuse(odmoe::format("scoring_func is '{}'", scoring));
  b.set_u32("expert_gating_func", scoring == "sigmoid" ? 2 : 1);
  const int64_t groups = b.value_or_fail(config.integer_or("n_group", 1, 1, 4096));
  if (groups > 1) {
    // V2's groups are scored by their best expert, V3's by the sum of two; GGUF's readers do the latter.
    if (scoring == "softmax") b.refuse("n_group is over 1 with softmax routing");
    b.set_u32("expert_group_count", groups);
    b.set_u32("expert_group_used_count", b.value_or_fail(config.integer("topk_group", 1, groups)));
  }
  return moe;
}

}  // namespace

void map_deepseek(HfModelBuilder& b, const std::string& prefix) {
  const HfCommon c = map_common(b, prefix);
  const Mla mla = read_mla(b);
  const Moe moe = read_moe(b, c);
  // GGUF keeps a tenth of mscale_all_dim: what YaRN multiplies by the logarithm of its factor.
  const double mscale = map_rope(b, HfYarn::kDeepSeek);
  if (mscale != 0) b.set_f32("rope.scaling.yarn_log_multiplier", 0.1 * mscale);

  for (int64_t i = 0; i < c.n_layer && !b.failed(); ++i) {
    const HfLayer layer(prefix, i);
    map_layer_norms(b, layer.block, layer.source, c.n_embd);
    map_attention(b, mla, c, layer.block, layer.attention);
    if (i < moe.n_dense) {
      map_ffn(b, layer.block, "", layer.mlp, c.n_embd, moe.n_ff);
      continue;
    }
    map_routed(b, layer.block, layer.mlp, c.n_embd, {.n_expert = moe.n_expert, .n_ff = moe.n_ff_exp});
    const std::string bias = layer.mlp + ".gate.e_score_correction_bias";
    if (b.has(bias)) b.add_vector(layer.block + "exp_probs_b.bias", bias, moe.n_expert);
    if (moe.n_shared > 0) {
      map_ffn(b, layer.block, "_shexp", layer.mlp + ".shared_experts", c.n_embd, moe.n_ff_exp * moe.n_shared);
    }
  }
}

}  // namespace odmoe
