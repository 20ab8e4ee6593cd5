// A layer of Kimi Delta Attention (arXiv:2510.26692): queries, keys and values go through convolutions of
// their own, then the delta rule with a gate for each key channel, and its output is normalised and gated.
// With f = f_b f_a x + dt_bias and A = exp(A_log) of each head the delta rule's gate is
//   -A softplus(f), or with a bound l < 0 (Kimi-K3, Ling 3)  l sigmoid(A f)
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "model/blocks/convolution.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

struct KdaShape {
  int64_t n_embd = 0, n_head = 0;
  int64_t head_dim = 0;
  int64_t n_tap = 0;  // of the convolutions
  float norm_eps = 1e-6F;
  float gate_lower_bound = 0;     // l; 0: none
  bool a_is_positive = false;     // the file has A in ssm_a, not -A
  bool a_has_leading_one = true;  // ... as {1, n_head}
  bool full_rank_decay = false;   // ssm_f_a is [n_embd, n_inner], and there is no ssm_f_b
  // Not empty: the output's gate is one matrix of that name, [n_embd, n_inner].
  std::string_view full_rank_gate;

  int64_t n_inner() const { return head_dim * n_head; }
  ConvolutionShape convolution() const {
    return {.n_tap = n_tap, .n_channel = n_inner(), .has_middle_one = true};
  }
};

struct KdaWeights {
  ggml_tensor *q = nullptr, *k = nullptr, *v = nullptr;  // [n_embd, n_inner]
  ConvolutionWeights q_convolution, k_convolution, v_convolution;
  // [n_embd, head_dim], [head_dim, n_inner]: of the gates; with full rank the second is null
  ggml_tensor *f_a = nullptr, *f_b = nullptr;
  ggml_tensor* dt_bias = nullptr;              // [n_inner]
  ggml_tensor* a = nullptr;                    // [1, n_head] or [n_head], A or -A
  ggml_tensor* beta = nullptr;                 // [n_embd, n_head]
  ggml_tensor *g_a = nullptr, *g_b = nullptr;  // as f: of the output's gate
  ggml_tensor* norm = nullptr;                 // [head_dim]
  ggml_tensor* output = nullptr;               // [n_inner, n_embd]
};

// blk.LAYER.{attn_{q,k,v,output},ssm_*}.
KdaWeights declare_kda(DenseWeights& weights, const KdaShape& shape, int layer);

std::vector<StateTensor> kda_state(const KdaShape& shape);

// x: [n_embd, n_token], already normalised.  Returns [n_embd, n_token].
ggml_tensor* kda(const LayerInputs& inputs, const KdaShape& shape, const KdaWeights& weights, int layer,
                 ggml_tensor* x);

}  // namespace odmoe
