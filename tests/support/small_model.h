// A complete but tiny mixture-of-experts GGUF for tests of the format: every kind of key that a real one has,
// one dense layer and `n_layer - 1` with experts.  Its weights are a pattern, not trained.
#pragma once

#include "gguf_writer.h"

namespace odmoe::testing {

struct SmallModelOptions {
  uint32_t version = 3;
  int n_layer = 3;
  int n_expert = 4;
  int n_vocab = 24;  // single letters and four longer tokens
  bool all_bytes =
      false;       // a token for each byte instead of the letters, so that a tokenizer can be made of it
  int n_more = 0;  // tokens beyond those, made up
  int64_t n_embd = 32;
  int64_t n_ff_exp = 32;
  ggml_type expert_type = GGML_TYPE_Q8_0;
  bool merge_gate_up = false;
};

// The vocabulary of a small model: tokenizer gpt2/qwen2, ChatML-like template.
void add_tokenizer(GgufWriter& writer, const SmallModelOptions& options);

// Architecture deepseek2, tokenizer gpt2/qwen2.
GgufWriter small_model(const SmallModelOptions& options);

}  // namespace odmoe::testing
