// The layer of Gated DeltaNet (arXiv:2412.06464) as Qwen3-Next has it: queries, keys and values go through a
// convolution, then the delta rule with one gate per head, and its output is normalised and gated.
#pragma once

#include <cstdint>
#include <vector>

#include "model/blocks/convolution.h"
#include "model/blocks/delta_rule.h"
#include "model/graph.h"
#include "model/weights.h"

namespace odmoe {

// What is made of z before it multiplies what the rule gives.
enum class DeltaNetGate : uint8_t { kSilu, kSigmoid };

struct DeltaNetShape {
  int64_t n_embd = 0;
  int64_t head_dim = 0;    // of queries, keys and values
  int64_t n_head_key = 0;  // of queries and keys
  int64_t n_head = 0;      // of values
  int64_t n_tap = 0;       // of the convolution
  float norm_eps = 1e-6F;
  KeyHeads key_heads = KeyHeads::kDivided;
  DeltaNetGate gate = DeltaNetGate::kSilu;
  bool joint_beta_alpha = false;  // one matrix, ssm_ba: per key head its betas, then its alphas

  int64_t n_key() const { return head_dim * n_head_key; }
  int64_t n_value() const { return head_dim * n_head; }
  ConvolutionShape convolution() const { return {.n_tap = n_tap, .n_channel = 2 * n_key() + n_value()}; }
};

struct DeltaNetWeights {
  ggml_tensor* qkv = nullptr;    // [n_embd, 2 n_key + n_value]: queries, keys, values
  ggml_tensor* z = nullptr;      // [n_embd, n_value], attn_gate
  ggml_tensor* joint = nullptr;  // instead of both, in older files: ssm_in, per key head [q, k, v.., z..]
  ggml_tensor* ba = nullptr;     // [n_embd, 2 n_head]
  ggml_tensor *beta = nullptr, *alpha = nullptr;  // instead of it: [n_embd, n_head]
  ConvolutionWeights convolution;
  ggml_tensor* dt_bias = nullptr;  // [n_head]
  ggml_tensor* a = nullptr;        // [n_head], -exp(A_log)
  ggml_tensor* norm = nullptr;     // [head_dim]
  ggml_tensor* output = nullptr;   // [n_value, n_embd]
};

// blk.LAYER.{attn_qkv,attn_gate,ssm_*}.
DeltaNetWeights declare_delta_net(DenseWeights& weights, const DeltaNetShape& shape, int layer);

std::vector<StateTensor> delta_net_state(const DeltaNetShape& shape);

// x: [n_embd, n_token], already normalised.  Returns [n_embd, n_token].
ggml_tensor* delta_net(const LayerInputs& inputs, const DeltaNetShape& shape, const DeltaNetWeights& weights,
                       int layer, ggml_tensor* x);

}  // namespace odmoe
