#include "convert/hf_common.h"

#include "odmoe/format.h"

namespace odmoe {

HfCommon map_common(HfModelBuilder& b, const std::string& prefix, HfTransform norms) {
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
  HfTarget* norm = b.add_vector("output_norm.weight", prefix + "norm.weight", c.n_embd);
  if (norm != nullptr) norm->transform = norms;
  const bool tied = b.value_or_fail(config.boolean_or("tie_word_embeddings", false));
  // The head stands beside the model: "language_model.model." has "language_model.lm_head".
  const std::string head = prefix == "language_model.model." ? "language_model." : "";
  if (!tied) b.add_matrix("output.weight", head + "lm_head", c.n_embd, c.n_vocab);
  return c;
}

HfLayer::HfLayer(const std::string& prefix, int64_t number)
    : block(odmoe::format("blk.{}.", number)),
      source(odmoe::format("{}layers.{}.", prefix, number)),
      attention(source + "self_attn."),
      mlp(source + "mlp") {}

void map_layer_norms(HfModelBuilder& b, const std::string& block, const std::string& layer, int64_t n_embd,
                     const std::string& ffn_norm, HfTransform norms) {
  HfTarget* norm = b.add_vector(block + "attn_norm.weight", layer + "input_layernorm.weight", n_embd);
  if (norm != nullptr) norm->transform = norms;
  norm = b.add_vector(block + ffn_norm + ".weight", layer + "post_attention_layernorm.weight", n_embd);
  if (norm != nullptr) norm->transform = norms;
}

HfHeads map_heads(HfModelBuilder& b, const HfCommon& c) {
  const HfConfig& config = b.config();
  HfHeads heads{.n_head = c.n_head};
  heads.n_head_kv = b.value_or_fail(config.integer_or("num_key_value_heads", c.n_head, 1, 4096));
  heads.head_dim =
      b.value_or_fail(config.integer_or("head_dim", c.n_head > 0 ? c.n_embd / c.n_head : 0, 1, 1 << 16));
  b.set_u32("attention.head_count_kv", heads.n_head_kv);
  b.set_u32("attention.key_length", heads.head_dim);
  b.set_u32("attention.value_length", heads.head_dim);
  return heads;
}

void map_projections(HfModelBuilder& b, const HfHeads& heads, const std::string& block,
                     const std::string& attention, int64_t n_embd) {
  b.add_matrix(block + "attn_q.weight", attention + "q_proj", n_embd, heads.n_query());
  b.add_matrix(block + "attn_k.weight", attention + "k_proj", n_embd, heads.n_key());
  b.add_matrix(block + "attn_v.weight", attention + "v_proj", n_embd, heads.n_key());
  b.add_matrix(block + "attn_output.weight", attention + "o_proj", heads.n_query(), n_embd);
}

HfLayer map_gqa_layer(HfModelBuilder& b, const HfCommon& c, const HfHeads& heads, const std::string& prefix,
                      int64_t number, const std::string& ffn_norm) {
  HfLayer layer(prefix, number);
  map_layer_norms(b, layer.block, layer.source, c.n_embd, ffn_norm);
  map_projections(b, heads, layer.block, layer.attention, c.n_embd);
  return layer;
}

void map_qkv_biases(HfModelBuilder& b, const HfHeads& heads, const std::string& block,
                    const std::string& attention) {
  b.add_vector(block + "attn_q.bias", attention + "q_proj.bias", heads.n_query());
  b.add_vector(block + "attn_k.bias", attention + "k_proj.bias", heads.n_key());
  b.add_vector(block + "attn_v.bias", attention + "v_proj.bias", heads.n_key());
}

void map_qk_norms(HfModelBuilder& b, const std::string& block, const std::string& attention, int64_t n_query,
                  int64_t n_key, HfTransform norms) {
  HfTarget* norm = b.add_vector(block + "attn_q_norm.weight", attention + "q_norm.weight", n_query);
  if (norm != nullptr) norm->transform = norms;
  norm = b.add_vector(block + "attn_k_norm.weight", attention + "k_norm.weight", n_key);
  if (norm != nullptr) norm->transform = norms;
}

void map_ffn(HfModelBuilder& b, const std::string& block, const std::string& suffix,
             const std::string& source, int64_t n_embd, int64_t n_ff) {
  b.add_matrix(block + "ffn_gate" + suffix + ".weight", source + ".gate_proj", n_embd, n_ff);
  b.add_matrix(block + "ffn_up" + suffix + ".weight", source + ".up_proj", n_embd, n_ff);
  b.add_matrix(block + "ffn_down" + suffix + ".weight", source + ".down_proj", n_ff, n_embd);
}

int64_t map_expert_counts(HfModelBuilder& b) {
  const HfConfig& config = b.config();
  // transformers 5 writes some families' number under the other name.
  const bool local = !config.has("num_experts") && config.has("num_local_experts");
  const int64_t n_expert =
      b.value_or_fail(config.integer(local ? "num_local_experts" : "num_experts", 1, 4096));
  b.set_u32("expert_count", n_expert);
  b.set_u32("expert_used_count", b.value_or_fail(config.integer("num_experts_per_tok", 1, 4096)));
  return n_expert;
}

void map_routed(HfModelBuilder& b, const std::string& block, const std::string& mlp, int64_t n_embd,
                const HfExperts& experts, bool numbered) {
  b.add_matrix(block + "ffn_gate_inp.weight", mlp + ".gate", n_embd, experts.n_expert, HfRole::kExact);
  const HfModelBuilder::ExpertNames names{
      .each = mlp + ".experts", .stacked = mlp + ".switch_mlp", .numbered = numbered};
  b.add_experts(block + "ffn_gate_exps.weight", names, "gate_proj", n_embd, experts.n_ff, experts.n_expert);
  b.add_experts(block + "ffn_up_exps.weight", names, "up_proj", n_embd, experts.n_ff, experts.n_expert);
  b.add_experts(block + "ffn_down_exps.weight", names, "down_proj", experts.n_ff, n_embd, experts.n_expert);
}

void map_gated_shared_expert(HfModelBuilder& b, const std::string& block, const std::string& mlp,
                             int64_t n_embd, int64_t n_ff) {
  // A row, which GGUF has as a vector.
  b.add_matrix(block + "ffn_gate_inp_shexp.weight", mlp + ".shared_expert_gate", n_embd, 1, HfRole::kExact);
  map_ffn(b, block, "_shexp", mlp + ".shared_expert", n_embd, n_ff);
}

void refuse_dense_layers(HfModelBuilder& b) {
  const HfConfig& config = b.config();
  if (b.value_or_fail(config.integer_or("decoder_sparse_step", 1, 0, 1 << 20)) != 1) {
    b.refuse("decoder_sparse_step is not 1: only some layers have experts");
  }
  const nlohmann::json* dense = config.find("mlp_only_layers");
  if (dense != nullptr && (!dense->is_array() || !dense->empty())) {
    b.refuse("mlp_only_layers names dense layers");
  }
}

void refuse_other_normalisation(HfModelBuilder& b, bool normalises, bool otherwise) {
  if (b.value_or_fail(b.config().boolean_or("norm_topk_prob", otherwise)) == normalises) return;
  b.refuse(odmoe::format("norm_topk_prob is {}, unlike in every known model of the family",
                         normalises ? "false" : "true"));
}

}  // namespace odmoe
