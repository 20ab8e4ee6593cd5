// What all families of Hugging Face have alike.
#pragma once

#include <cstdint>
#include <string>

#include "convert/hf_model.h"

namespace odmoe {

struct HfCommon {
  int64_t n_layer = 0, n_embd = 0, n_head = 0, n_vocab = 0;
};

// Sets the keys that every family has, and adds embedding, output norm and head.
HfCommon map_common(HfModelBuilder& builder, const std::string& prefix);

// "blk.3.attn_norm.weight" and "model.layers.3.input_layernorm.weight", and the norm before the FFN.
void map_layer_norms(HfModelBuilder& builder, const std::string& block, const std::string& layer,
                     int64_t n_embd);

// The three projections of an FFN: blk.N.ffn_{gate,up,down}SUFFIX from LAYER.{gate,up,down}_proj.
void map_ffn(HfModelBuilder& builder, const std::string& block, const std::string& suffix,
             const std::string& source, int64_t n_embd, int64_t n_ff);

// The router and the experts of a layer.
void map_routed(HfModelBuilder& builder, const std::string& block, const std::string& layer, int64_t n_embd,
                int64_t n_ff_exp, int64_t n_expert);

}  // namespace odmoe
