#include "kimi_k2.h"

#include "odmoe/format.h"
#include "small_model.h"

namespace odmoe::testing {

GgufWriter kimi_k2_header() {
  using K = KimiK2;
  constexpr int64_t kQueryRank = 1536;
  constexpr int64_t kNope = 128;
  constexpr int64_t kValue = 128;
  constexpr int64_t kDenseWidth = 18432;
  GgufWriter w;
  const auto set = [&](std::string_view name, int64_t value) {
    w.set(odmoe::format("deepseek2.{}", name), static_cast<uint32_t>(value));
  };
  w.set("general.architecture", "deepseek2").set("general.name", "Kimi-K2 shapes");
  set("block_count", K::kLayers);
  set("context_length", 131072);
  set("embedding_length", K::kEmbedding);
  set("feed_forward_length", kDenseWidth);
  set("leading_dense_block_count", 1);
  set("expert_count", K::kExperts);
  set("expert_used_count", 8);
  set("expert_shared_count", 1);
  set("expert_feed_forward_length", K::kExpertWidth);
  set("expert_gating_func", 2);
  set("attention.head_count", K::kHeads);
  set("attention.head_count_kv", 1);
  set("attention.q_lora_rank", kQueryRank);
  set("attention.kv_lora_rank", K::kKvRank);
  set("attention.key_length", K::kKvRank + K::kRope);
  set("attention.value_length", K::kKvRank);
  set("attention.key_length_mla", kNope + K::kRope);
  set("attention.value_length_mla", kValue);
  set("rope.dimension_count", K::kRope);
  set("rope.scaling.original_context_length", 4096);
  w.set("deepseek2.attention.layer_norm_rms_epsilon", 1e-6F)
      .set("deepseek2.rope.freq_base", 50000.0F)
      .set("deepseek2.expert_weights_norm", true)
      .set("deepseek2.expert_weights_scale", 2.827F)
      .set("deepseek2.rope.scaling.type", "yarn")
      .set("deepseek2.rope.scaling.factor", 32.0F)
      .set("deepseek2.rope.scaling.yarn_log_multiplier", 0.1F);

  add_tokenizer(w, {.all_bytes = true, .n_more = static_cast<int>(K::kVocabulary) - 260});

  const auto dense = [&](const std::string& name, std::vector<int64_t> ne) {
    w.add_hole(name, GGML_TYPE_Q8_0, std::move(ne));
  };
  const auto plain = [&](const std::string& name, int64_t n) { w.add_hole(name, GGML_TYPE_F32, {n}); };
  dense("token_embd.weight", {K::kEmbedding, K::kVocabulary});
  dense("output.weight", {K::kEmbedding, K::kVocabulary});
  plain("output_norm.weight", K::kEmbedding);
  for (int64_t layer = 0; layer < K::kLayers; ++layer) {
    const std::string p = odmoe::format("blk.{}.", layer);
    plain(p + "attn_norm.weight", K::kEmbedding);
    plain(p + "ffn_norm.weight", K::kEmbedding);
    dense(p + "attn_q_a.weight", {K::kEmbedding, kQueryRank});
    plain(p + "attn_q_a_norm.weight", kQueryRank);
    dense(p + "attn_q_b.weight", {kQueryRank, K::kHeads * (kNope + K::kRope)});
    dense(p + "attn_kv_a_mqa.weight", {K::kEmbedding, K::kKvRank + K::kRope});
    plain(p + "attn_kv_a_norm.weight", K::kKvRank);
    dense(p + "attn_k_b.weight", {kNope, K::kKvRank, K::kHeads});
    dense(p + "attn_v_b.weight", {K::kKvRank, kValue, K::kHeads});
    dense(p + "attn_output.weight", {K::kHeads * kValue, K::kEmbedding});
    if (layer == 0) {
      dense(p + "ffn_gate.weight", {K::kEmbedding, kDenseWidth});
      dense(p + "ffn_up.weight", {K::kEmbedding, kDenseWidth});
      dense(p + "ffn_down.weight", {kDenseWidth, K::kEmbedding});
      continue;
    }
    w.add_hole(p + "ffn_gate_inp.weight", GGML_TYPE_F32, {K::kEmbedding, K::kExperts});
    plain(p + "exp_probs_b.bias", K::kExperts);
    for (const char* part : {"gate", "up"}) {
      w.add_hole(odmoe::format("{}ffn_{}_exps.weight", p, part), GGML_TYPE_Q2_K,
                 {K::kEmbedding, K::kExpertWidth, K::kExperts});
      dense(odmoe::format("{}ffn_{}_shexp.weight", p, part), {K::kEmbedding, K::kExpertWidth});
    }
    w.add_hole(p + "ffn_down_exps.weight", GGML_TYPE_Q2_K, {K::kExpertWidth, K::kEmbedding, K::kExperts});
    dense(p + "ffn_down_shexp.weight", {K::kExpertWidth, K::kEmbedding});
  }
  return w;
}

}  // namespace odmoe::testing
