#include "convert/hf_common.h"

#include "odmoe/format.h"

namespace odmoe {

HfCommon map_common(HfModelBuilder& b, const std::string& prefix) {
  const HfConfig& config = b.config();
  HfCommon c;
  c.n_layer = b.value_or_fail(config.integer("num_hidden_layers", 1, 1024));
  c.n_embd = b.value_or_fail(config.integer("hidden_size", 1, 1 << 20));
  c.n_head = b.value_or_fail(config.integer("num_attention_heads", 1, 4096));
  c.n_vocab = b.value_or_fail(config.integer("vocab_size", 1, 1 << 20));
  b.set_u32("block_count", c.n_layer);
  b.set_u32("embedding_length", c.n_embd);
  b.set_u32("attention.head_count", c.n_head);
  b.set_u32("vocab_size", c.n_vocab);
  b.set_u32("context_length", b.value_or_fail(config.integer("max_position_embeddings", 1, 1 << 27)));
  b.set_f32("attention.layer_norm_rms_epsilon", b.value_or_fail(config.number("rms_norm_eps")));
  const std::string activation = b.value_or_fail(config.string_or("hidden_act", "silu"));
  if (activation != "silu" && !b.failed()) {
    b.fail_with({ErrorKind::kUnsupported,
                 odmoe::format("{}: hidden_act is '{}'; only silu is read", config.name(), activation)});
  }
  b.add_matrix("token_embd.weight", prefix + "embed_tokens", c.n_embd, c.n_vocab);
  b.add_vector("output_norm.weight", prefix + "norm.weight", c.n_embd);
  const bool tied = b.value_or_fail(config.boolean_or("tie_word_embeddings", false));
  // The head stands beside the model: "language_model.model." has "language_model.lm_head".
  const std::string head = prefix == "language_model.model." ? "language_model." : "";
  if (!tied) b.add_matrix("output.weight", head + "lm_head", c.n_embd, c.n_vocab);
  return c;
}

void map_layer_norms(HfModelBuilder& b, const std::string& block, const std::string& layer, int64_t n_embd) {
  b.add_vector(block + "attn_norm.weight", layer + "input_layernorm.weight", n_embd);
  b.add_vector(block + "ffn_norm.weight", layer + "post_attention_layernorm.weight", n_embd);
}

void map_ffn(HfModelBuilder& b, const std::string& block, const std::string& suffix,
             const std::string& source, int64_t n_embd, int64_t n_ff) {
  b.add_matrix(block + "ffn_gate" + suffix + ".weight", source + ".gate_proj", n_embd, n_ff);
  b.add_matrix(block + "ffn_up" + suffix + ".weight", source + ".up_proj", n_embd, n_ff);
  b.add_matrix(block + "ffn_down" + suffix + ".weight", source + ".down_proj", n_ff, n_embd);
}

void map_routed(HfModelBuilder& b, const std::string& block, const std::string& layer, int64_t n_embd,
                int64_t n_ff_exp, int64_t n_expert) {
  b.add_matrix(block + "ffn_gate_inp.weight", layer + "mlp.gate", n_embd, n_expert, HfRole::kExact);
  const HfModelBuilder::ExpertNames names{.each = layer + "mlp.experts", .stacked = layer + "mlp.switch_mlp"};
  b.add_experts(block + "ffn_gate_exps.weight", names, "gate_proj", n_embd, n_ff_exp, n_expert);
  b.add_experts(block + "ffn_up_exps.weight", names, "up_proj", n_embd, n_ff_exp, n_expert);
  b.add_experts(block + "ffn_down_exps.weight", names, "down_proj", n_ff_exp, n_embd, n_expert);
}

}  // namespace odmoe
