// Qwen2Moe (Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B) and Qwen3Moe (30B-A3B, 235B-A22B) as Hugging Face has them.
#include "convert/hf_common.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// What a published model has none of and GGUF no key for.
void refuse_unread(HfModelBuilder& b, bool normalises) {
  const HfConfig& config = b.config();
  const auto refuse = [&](std::string_view what) {
    b.fail_with({ErrorKind::kUnsupported, odmoe::format("{}: {}, which is not read", config.name(), what)});
  };
  if (b.value_or_fail(config.integer_or("decoder_sparse_step", 1, 0, 1 << 20)) != 1) {
    refuse("decoder_sparse_step is not 1: only some layers have experts");
  }
  const nlohmann::json* dense = config.find("mlp_only_layers");
  if (dense != nullptr && (!dense->is_array() || !dense->empty()))
    refuse("mlp_only_layers names dense layers");
  if (b.value_or_fail(config.boolean_or("use_sliding_window", false))) refuse("use_sliding_window is set");
  // llama.cpp's graphs, which GGUF's readers follow, go by the family and not by the key.
  if (b.value_or_fail(config.boolean_or("norm_topk_prob", false)) != normalises) {
    refuse(odmoe::format("norm_topk_prob is {}, unlike in every known model of the family",
                         normalises ? "false" : "true"));
  }
}

void map_qwen(HfModelBuilder& b, const std::string& prefix, bool qwen3) {
  const HfConfig& config = b.config();
  const HfCommon c = map_common(b, prefix);
  refuse_unread(b, qwen3);
  const int64_t n_head_kv = b.value_or_fail(config.integer_or("num_key_value_heads", c.n_head, 1, 4096));
  const int64_t head_dim =
      b.value_or_fail(config.integer_or("head_dim", c.n_head > 0 ? c.n_embd / c.n_head : 0, 1, 1 << 16));
  // transformers 5 writes Qwen3Moe's number under the other name.
  const bool local = !config.has("num_experts") && config.has("num_local_experts");
  const int64_t n_expert =
      b.value_or_fail(config.integer(local ? "num_local_experts" : "num_experts", 1, 4096));
  const int64_t n_ff_exp = b.value_or_fail(config.integer("moe_intermediate_size", 1, 1 << 20));
  const int64_t n_ff_shared =
      qwen3 ? 0 : b.value_or_fail(config.integer("shared_expert_intermediate_size", 1, 1 << 20));
  b.set_u32("attention.head_count_kv", n_head_kv);
  b.set_u32("attention.key_length", head_dim);
  b.set_u32("attention.value_length", head_dim);
  b.set_u32("feed_forward_length", b.value_or_fail(config.integer("intermediate_size", 1, 1 << 20)));
  b.set_u32("expert_count", n_expert);
  b.set_u32("expert_used_count", b.value_or_fail(config.integer("num_experts_per_tok", 1, 4096)));
  b.set_u32("expert_feed_forward_length", n_ff_exp);
  if (!qwen3) b.set_u32("expert_shared_feed_forward_length", n_ff_shared);
  map_rope(b, /*deepseek=*/false);

  for (int64_t i = 0; i < c.n_layer && !b.failed(); ++i) {
    const std::string block = odmoe::format("blk.{}.", i);
    const std::string layer = odmoe::format("{}layers.{}.", prefix, i);
    const std::string attention = layer + "self_attn.";
    map_layer_norms(b, block, layer, c.n_embd);
    b.add_matrix(block + "attn_q.weight", attention + "q_proj", c.n_embd, head_dim * c.n_head);
    b.add_matrix(block + "attn_k.weight", attention + "k_proj", c.n_embd, head_dim * n_head_kv);
    b.add_matrix(block + "attn_v.weight", attention + "v_proj", c.n_embd, head_dim * n_head_kv);
    b.add_matrix(block + "attn_output.weight", attention + "o_proj", head_dim * c.n_head, c.n_embd);
    if (qwen3) {
      b.add_vector(block + "attn_q_norm.weight", attention + "q_norm.weight", head_dim);
      b.add_vector(block + "attn_k_norm.weight", attention + "k_norm.weight", head_dim);
    } else {
      b.add_vector(block + "attn_q.bias", attention + "q_proj.bias", head_dim * c.n_head);
      b.add_vector(block + "attn_k.bias", attention + "k_proj.bias", head_dim * n_head_kv);
      b.add_vector(block + "attn_v.bias", attention + "v_proj.bias", head_dim * n_head_kv);
    }
    map_routed(b, block, layer, c.n_embd, n_ff_exp, n_expert);
    if (!qwen3) {
      // A row, which GGUF has as a vector.
      b.add_matrix(block + "ffn_gate_inp_shexp.weight", layer + "mlp.shared_expert_gate", c.n_embd, 1,
                   HfRole::kExact);
      map_ffn(b, block, "_shexp", layer + "mlp.shared_expert", c.n_embd, n_ff_shared);
    }
  }
}

}  // namespace

void map_qwen2_moe(HfModelBuilder& builder, const std::string& prefix) { map_qwen(builder, prefix, false); }
void map_qwen3_moe(HfModelBuilder& builder, const std::string& prefix) { map_qwen(builder, prefix, true); }

}  // namespace odmoe
