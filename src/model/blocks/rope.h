// Rotary position embedding and its YaRN extension: metadata to ggml's parameters.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <string>

#include "format/account.h"
#include "odmoe/result.h"

namespace odmoe {

// Which dimensions turn together: adjacent pairs (deepseek2) or the two halves (the Qwen families).
enum class RopePairs { kAdjacent, kHalves };

// YaRN as in arXiv:2309.00071; the names are ggml_rope_ext's.
struct RopeOptions {
  int32_t n_rot = 0;  // dimensions that turn; 0: none does
  int32_t first = 0;  // of them, within a head
  RopePairs pairs = RopePairs::kHalves;
  int32_t n_ctx_orig = 0;  // context that the model was first trained with
  float freq_base = 10000;
  float freq_scale = 1;   // 1 / factor
  float ext_factor = 0;   // 1 with YaRN, else 0
  float attn_factor = 1;  // multiplies cos and sin
  float beta_fast = 32, beta_slow = 1;
  bool yarn() const { return ext_factor != 0; }
};

// Reads ARCH.rope.* but yarn_log_multiplier, which is for those who give it a meaning.  n_rot is the default
// for rope.dimension_count, beta_fast what the family's models were made with.  Without a scaling type a
// factor is linear, as in llama.cpp. kUnsupported for a scaling type other than none,
// linear and yarn.
Result<RopeOptions> read_rope(Account& file, const std::string& arch, RopePairs pairs, int32_t n_rot,
                              float beta_fast = 32);

// x: [head_dim, n_head, n_token]; positions: i32 [n_token]; factors: F32 [n_rot / 2], by which the angles are
// divided, or null.
ggml_tensor* rope(ggml_context* ctx, ggml_tensor* x, ggml_tensor* positions, const RopeOptions& options,
                  ggml_tensor* factors = nullptr);

// The other way round; without factors.
ggml_tensor* rope_back(ggml_context* ctx, ggml_tensor* x, ggml_tensor* positions, const RopeOptions& options);

}  // namespace odmoe
