// Tiny models with random weights that really run, one per family and variant, for tests of the whole engine
// on machines without the reference data.
#pragma once

#include "gguf_writer.h"

namespace odmoe::testing {

struct RunnableModelOptions {
  const char* architecture = "qwen3moe";  // or "qwen2moe", "deepseek2"
  ggml_type expert_type = GGML_TYPE_F32;
  ggml_type down_type = GGML_TYPE_COUNT;  // of the second layer's down projections; COUNT: expert_type
  ggml_type dense_type = GGML_TYPE_F32;   // of dense matrices whose rows it divides
  int n_layer = 2;                        // deepseek2 has a dense one before them
  int n_expert = 8;
  int n_expert_used = 2;
  int64_t n_embd = 64;
  int64_t n_ff_exp = 32;
  bool merge_gate_up = false;
  // deepseek2
  bool q_lora = true;
  bool joint_kv_b = false;  // attn_kv_b as older files have it, with the same values as attn_k_b and attn_v_b
  bool sigmoid_groups = true;
  bool yarn = true;
  // Experts are rounded to this type first and then stored as expert_type, so that two models can be
  // compared.
  ggml_type round_to = GGML_TYPE_COUNT;
};

// 260 tokens: every byte and four more.
GgufWriter runnable_model(const RunnableModelOptions& options);

}  // namespace odmoe::testing
