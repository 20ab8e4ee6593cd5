// What every model family has in common: sizes that the engine needs to plan and to run.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/blocks/activation.h"
#include "model/blocks/norm.h"
#include "model/blocks/router.h"

namespace odmoe {

// What routers see.
enum class RouterInput : uint8_t {
  kOfExperts,   // what the experts see
  kLayerInput,  // what the layer began with, without a norm (SmallThinker)
  // What attention made of it, through an RMSNorm divided by sqrt(n_embd) whose weight is
  // blk.N.ffn_gate_inp.scale (Gemma 4).
  kScaled,
};

// How a layer's parts are put together.  Without any of it:
//   x += attention(norm(x)); x += mlp(norm(x)); at the end logits = output norm(x)
// where mlp is the sum of the routed experts and what stands beside them.
struct LayerOptions {
  NormKind norm = NormKind::kRms;
  int32_t norm_groups = 1;   // parts that these norms are of, of equal width
  bool norm_bias = false;    // all these norms have biases
  bool output_bias = false;  // the output head has one

  // blk.N.NAME: the norms before attention and MLP, and of what they give, before it is added.  Empty: no
  // such norm; of the first two and of the next where the streams are their own (ResidualStreams).
  // Of the whole model, OUTPUT_NORM.weight: before the output head.
  std::string_view output_norm = "output_norm";
  std::string_view attention_norm = "attn_norm";
  std::string_view ffn_norm = "ffn_norm";
  std::string_view attention_post_norm;
  std::string_view ffn_post_norm;

  // Not empty: router and experts see the layer's input, through the norm blk.N.NAME; only what stands beside
  // them sees what attention made of it, through ffn_norm (Arctic).
  std::string_view expert_norm;

  // The MLP stands beside attention and sees what attention sees: there is no ffn_norm (Cohere 2).
  bool parallel = false;
  RouterInput router_input = RouterInput::kOfExperts;

  float embedding_scale = 1;  // multiplies the embedding
  float mlp_scale = 1;        // the sum of routed experts and what stands beside them, before its norm
  float residual_scale = 1;   // what attention and MLP add
  // What attention and MLP add to is not the stream but what they began with, its norm, times residual_scale;
  // they are added as they are: x = residual_scale * norm(x) + attention(norm(x)) (MiniMax-01).
  bool norm_is_residual = false;
  float logit_scale = 1;  // logits
  float logit_cap = 0;    // c: then logits become c tanh(logit / c); 0: they do not
};

enum class MlpKind : uint8_t { kNone, kDense, kExperts };

// What a layer is made of.
struct LayerParts {
  bool attention = true;  // or whatever the family has in its place
  MlpKind mlp = MlpKind::kExperts;
};

// What every token adds beside its routed experts.
struct SharedExpertShape {
  int64_t n_ff = 0;                    // of all shared experts together; 0: there are none
  bool gated = false;                  // by a sigmoid
  std::string_view suffix = "_shexp";  // blk.N.ffn_{gate,up,down}SUFFIX
  std::string_view post_norm;          // blk.N.NAME, of what they give; empty: none
};

// What experts have beside their matrices.
struct ExpertExtras {
  bool biases = false;  // blk.N.ffn_{gate,up,down}_exps.bias
  bool scales = false;  // blk.N.ffn_down_exps.scale, a factor for each expert of what it gives
  // The weight multiplies what an expert sees, not what it gives (Llama 4).
  bool weigh_input = false;
};

// Limits of SwiGLUs, by layer; 0, and where there are none: no limit.
struct SwigluLimits {
  SwigluLimit limited = SwigluLimit::kGate;
  std::vector<float> experts;
  std::vector<float> others;  // of shared experts and dense layers
};

struct ModelShape {
  std::string architecture;  // general.architecture: "qwen3moe"
  std::string name;          // general.name
  int32_t n_layer = 0;
  int32_t n_layer_dense_lead = 0;  // first layers without experts
  // First layers whose experts the token alone says: blk.N.ffn_gate_tid2eid; the router says their weights.
  int32_t n_layer_by_token = 0;
  int32_t expert_layer_step = 1;  // of the others, layers whose number from 1 is a multiple have experts
  int32_t n_layer_nextn = 0;  // blocks of the file behind these layers: for speculation (MTP), passed over
  int32_t n_embd = 0;
  int32_t n_stream = 0;  // between the layers (ResidualStreams); 0: one vector a token, as LayerOptions says
  int32_t n_vocab = 0;
  int32_t n_context_train = 0;
  int32_t n_head = 0, n_head_kv = 0;
  int32_t n_ff = 0;        // of the dense layers; 0 where there are none
  int32_t n_ff_exp = 0;    // of one routed expert
  float norm_eps = 1e-6F;  // of every norm
  // What routed experts see and give, where it is not the stream's width: n_embd (their latent space).
  int32_t n_embd_exp = 0;                     // 0: n_embd
  Activation activation = Activation::kSilu;  // of every feed-forward network
  SwigluLimits limits;
  Situ situ;
  // They have a gate's matrix.  Without it up is its own gate: activation(up x) * up x.
  bool ffn_gates = true;
  SharedExpertShape shared;  // with the same activation and gates
  ExpertExtras extras;
  RouterOptions router;
  bool router_bias = false;         // blk.N.ffn_gate_inp.bias, of the logits
  std::string_view selection_bias;  // blk.N.NAME, which routers may have; empty: none has
  LayerOptions layer;

  // By layer, where the two numbers above do not say it: layers without attention or without an MLP, experts
  // in any of them.  Empty: they do.
  std::vector<LayerParts> parts;
  int32_t max_layer_nodes = 64;  // of a graph, that a layer may need

  LayerParts layer_parts(int number) const {
    if (!parts.empty()) return parts[static_cast<size_t>(number)];
    const bool experts = number >= n_layer_dense_lead && (number + 1) % expert_layer_step == 0;
    return {.attention = true, .mlp = experts ? MlpKind::kExperts : MlpKind::kDense};
  }
  int64_t expert_width() const { return n_embd_exp == 0 ? n_embd : n_embd_exp; }
  // Whether experts do not see what their router saw (Architecture::expert_input()).
  bool experts_see_another() const {
    return n_embd_exp != 0 || layer.router_input != RouterInput::kOfExperts;
  }
  // Whether routers see what the layer began with, and not what attention made of it.
  bool routers_see_layer_input() const {
    return !layer.expert_norm.empty() || layer.parallel || layer.router_input == RouterInput::kLayerInput;
  }
  // Of a layer with experts, the tensor of the norm before its router; empty: there is none.
  std::string router_norm(int number) const;

  Glu expert_glu(int number) const { return glu(limits.experts, number); }
  Glu other_glu(int number) const { return glu(limits.others, number); }  // of shared experts, dense layers

  bool has_experts(int number) const { return layer_parts(number).mlp == MlpKind::kExperts; }
  // The first layer with experts; n_layer where there is none.
  int32_t first_expert_layer() const {
    for (int32_t number = 0; number < n_layer; ++number) {
      if (has_experts(number)) return number;
    }
    return n_layer;
  }

 private:
  Glu glu(const std::vector<float>& limit_of, int number) const {
    const auto i = static_cast<size_t>(number);
    return {.activation = activation,
            .limited = limits.limited,
            .limit = i < limit_of.size() ? limit_of[i] : 0,
            .situ = situ};
  }
};

}  // namespace odmoe
