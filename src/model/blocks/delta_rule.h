// The gated delta rule (Gated DeltaNet, arXiv:2412.06464; with a gate for each key channel Kimi Delta
// Attention, arXiv:2510.26692): a matrix S per value head, zero before the first token, of which for each
// token
//   S *= exp(g);  S += k (beta (v - S^T k))^T;  o = S^T q / sqrt(d)
// where q and k are L2-normalised.
#pragma once

#include <cstdint>

#include "model/graph.h"

namespace odmoe {

struct DeltaRuleInputs {
  ggml_tensor *q = nullptr, *k = nullptr;  // [d, n_head_key, n_token]
  ggml_tensor* v = nullptr;                // [d, n_head, n_token]; heads of keys serve n_head / n_head_key
  ggml_tensor* g = nullptr;  // [1, n_head, n_token], or for each key channel [d, n_head, n_token]; contiguous
  ggml_tensor* beta = nullptr;  // [1, n_head, n_token], contiguous
};

// Which key head a value head has.
enum class KeyHeads {
  kDivided,    // v / (n_head / n_head_key): those of a key head follow each other
  kRemainder,  // v % n_head_key
};

// What it remembers: S of each head.
StateTensor delta_rule_state(int64_t d, int64_t n_head);

// `number` is that of delta_rule_state() among the layer's tensors; eps that of the L2 norms.  Returns o,
// [d, n_head, n_token], contiguous.
ggml_tensor* delta_rule(const LayerInputs& inputs, const DeltaRuleInputs& in, KeyHeads key_heads, float eps,
                        int layer, size_t number);

}  // namespace odmoe
