// Lightning attention of MiniMax-01 (arXiv:2501.08313): linear attention whose state, a matrix S per head
// that is zero before the first token, fades by a constant factor: for each token
//   S = exp(-s) S + k v^T;  o = S^T q
//   s = r^(h + 1) (1 - layer / (n_layer - 1) + 1e-5),  r = 2^-(2^-(log2 n_head - 3))
// of queries, keys and values behind a silu.  o is normalised over all heads and gated.  It is computed as a
// selective scan with a step of 1 whose b, x and c are k, v and q: ggml's own operation for it
// (ggml_gated_linear_attn) leaves out heads where there are more threads than heads.
#pragma once

#include <cstdint>
#include <vector>

#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

struct LightningShape {
  int64_t n_embd = 0, n_head = 0;
  int64_t head_dim = 0;
  int32_t n_layer = 0;  // of the model
  float norm_eps = 1e-6F;
  int64_t n_inner() const { return head_dim * n_head; }
};

struct LightningWeights {
  ggml_tensor* qkv = nullptr;     // [n_embd, 3 n_inner]: per head query, key, value
  ggml_tensor* a = nullptr;       // [1, n_head], -s, which no file has
  ggml_tensor* dt = nullptr;      // [n_head], constant
  ggml_tensor* norm = nullptr;    // [n_inner]
  ggml_tensor* gate = nullptr;    // [n_embd, n_inner]
  ggml_tensor* output = nullptr;  // [n_inner, n_embd]
};

// blk.LAYER.attn_{qkv,norm_2,gate,output}.
LightningWeights declare_lightning(DenseWeights& weights, const LightningShape& shape, int layer);

std::vector<StateTensor> lightning_state(const LightningShape& shape);

// x: [n_embd, n_token], already normalised.  Returns [n_embd, n_token].
ggml_tensor* lightning_attention(const LayerInputs& inputs, const LightningShape& shape,
                                 const LightningWeights& weights, int layer, ggml_tensor* x);

}  // namespace odmoe
