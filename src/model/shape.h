// What every model family has in common: sizes that the engine needs to plan and to run.
#pragma once

#include <cstdint>
#include <string>

#include "model/blocks/router.h"

namespace odmoe {

struct ModelShape {
  std::string architecture;  // general.architecture: "qwen3moe"
  std::string name;          // general.name
  int32_t n_layer = 0;
  int32_t n_layer_dense_lead = 0;  // first layers without experts
  int32_t n_layer_nextn = 0;  // blocks of the file behind these layers: for speculation (MTP), passed over
  int32_t n_embd = 0;
  int32_t n_vocab = 0;
  int32_t n_context_train = 0;
  int32_t n_head = 0, n_head_kv = 0;
  int32_t n_ff = 0;        // of the dense layers; 0 where there are none
  int32_t n_ff_exp = 0;    // of one routed expert
  float norm_eps = 1e-6F;  // of RMSNorm
  RouterOptions router;
  bool selection_bias = false;  // whether routers may have exp_probs_b

  bool has_experts(int layer) const { return layer >= n_layer_dense_lead; }
};

}  // namespace odmoe
