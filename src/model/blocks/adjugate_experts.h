// A second, small set of experts, one for each group of routed ones, computed from what those gave
// (GroveMoE, arXiv:2508.07785; the order of operations is llama.cpp's).  They are part of the graph: their
// weights are always in memory, and they are chosen by the router's logits, which are there.
#pragma once

#include <cstdint>

#include "model/weights.h"

namespace odmoe {

struct AdjugateShape {
  int64_t n_embd = 0, n_ff = 0;
  int32_t n_expert = 0;    // routed ones
  int32_t group_size = 1;  // of them, for one of these
  int32_t n_used = 0;      // at most n_adjugate()
  float scale = 1;         // of what they add

  int32_t n_adjugate() const { return n_expert / group_size; }
};

struct AdjugateWeights {
  ggml_tensor *gate = nullptr, *up = nullptr;  // [n_embd, n_ff, n_adjugate]
  ggml_tensor* down = nullptr;                 // [n_ff, n_embd, n_adjugate]
};

// blk.LAYER.ffn_{gate,up,down}_chexps.weight.
AdjugateWeights declare_adjugate(DenseWeights& weights, const AdjugateShape& shape, int layer);

// sum: [n_embd, n_token], of the routed experts; router_logits: [n_expert, n_token].  The n_used best
// experts' groups, one after the other, each with the router's probability at the group's own number,
// normalised. Returns sum + scale * what they give.
ggml_tensor* add_adjugate(ggml_context* ctx, const AdjugateShape& shape, const AdjugateWeights& weights,
                          ggml_tensor* sum, ggml_tensor* router_logits);

}  // namespace odmoe
