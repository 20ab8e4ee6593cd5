// What all families of Hugging Face have alike.
#pragma once

#include <cstdint>
#include <string>

#include "convert/hf_model.h"

namespace odmoe {

struct HfCommon {
  int64_t n_layer = 0, n_embd = 0, n_head = 0, n_vocab = 0;
};

// Sets the keys that every family has, and adds embedding, output norm and head.  `norms` is what becomes of
// the weights of norms.
HfCommon map_common(HfModelBuilder& builder, const std::string& prefix,
                    HfTransform norms = HfTransform::kNone);

// What stands before the names of a layer's tensors: "blk.3." in the GGUF, "model.layers.3." in the
// checkpoint, and there of attention "model.layers.3.self_attn." and of the FFN "model.layers.3.mlp".
struct HfLayer {
  HfLayer(const std::string& prefix, int64_t number);
  std::string block, source, attention, mlp;
};

// The norms before attention and FFN: "blk.3.attn_norm.weight" from "model.layers.3.input_layernorm.weight",
// and "blk.3.FFN_NORM.weight".
void map_layer_norms(HfModelBuilder& builder, const std::string& block, const std::string& layer,
                     int64_t n_embd, const std::string& ffn_norm = "ffn_norm",
                     HfTransform norms = HfTransform::kNone);

// Attention with grouped heads.
struct HfHeads {
  int64_t n_head = 0, n_head_kv = 0, head_dim = 0;
  int64_t n_query() const { return n_head * head_dim; }
  int64_t n_key() const { return n_head_kv * head_dim; }
};

// Reads it, and sets its keys.
HfHeads map_heads(HfModelBuilder& builder, const HfCommon& common);

// Queries, keys, values and output: blk.N.attn_{q,k,v,output} from ATTENTION.{q,k,v,o}_proj.
void map_projections(HfModelBuilder& builder, const HfHeads& heads, const std::string& block,
                     const std::string& attention, int64_t n_embd);

// The norms and the projections of a layer whose attention has grouped heads.
HfLayer map_gqa_layer(HfModelBuilder& builder, const HfCommon& common, const HfHeads& heads,
                      const std::string& prefix, int64_t number, const std::string& ffn_norm = "ffn_norm");

// The biases of queries, keys and values.
void map_qkv_biases(HfModelBuilder& builder, const HfHeads& heads, const std::string& block,
                    const std::string& attention);

// The norms of queries and keys, of as many elements each.
void map_qk_norms(HfModelBuilder& builder, const std::string& block, const std::string& attention,
                  int64_t n_query, int64_t n_key, HfTransform norms = HfTransform::kNone);

// The three projections of an FFN: blk.N.ffn_{gate,up,down}SUFFIX from LAYER.{gate,up,down}_proj.
void map_ffn(HfModelBuilder& builder, const std::string& block, const std::string& suffix,
             const std::string& source, int64_t n_embd, int64_t n_ff);

struct HfExperts {
  int64_t n_expert = 0, n_ff = 0;
};

// Reads num_experts, under whichever name, and num_experts_per_tok, and sets their keys.  The width is the
// family's to say.
int64_t map_expert_counts(HfModelBuilder& builder);

// The router and the experts of a layer: MLP.gate, MLP.experts.  `numbered`: w1, w3, w2 are their gate, up
// and down projections.
void map_routed(HfModelBuilder& builder, const std::string& block, const std::string& mlp, int64_t n_embd,
                const HfExperts& experts, bool numbered = false);

// A shared expert behind a gate of its own: MLP.shared_expert, MLP.shared_expert_gate.
void map_gated_shared_expert(HfModelBuilder& builder, const std::string& block, const std::string& mlp,
                             int64_t n_embd, int64_t n_ff);

// Refuses what says that only some layers have experts: decoder_sparse_step, mlp_only_layers.
void refuse_dense_layers(HfModelBuilder& builder);

// Refuses a norm_topk_prob other than the family's, which GGUF has no key for: its readers go by the family.
void refuse_other_normalisation(HfModelBuilder& builder, bool normalises, bool otherwise);

}  // namespace odmoe
