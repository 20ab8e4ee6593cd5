// The activations of all evaluations, in one piece of memory.
#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "io/aligned_buffer.h"
#include "model/decoder.h"
#include "odmoe/result.h"

namespace odmoe {

// One owner.  Memory is reserved at creation, and becomes resident as it is used.
class EvaluationMemory {
 public:
  struct Sizes {
    int64_t tokens = 0;   // of one evaluation, at most
    int32_t lanes = 1;    // at most `tokens`
    int64_t context = 0;  // rows of the KV cache, at most
    int64_t logits = 0;   // tokens whose logits are kept at once
  };
  // kIo: no memory.
  static Result<std::unique_ptr<EvaluationMemory>> create(const Backend& backend, const Decoder& decoder,
                                                          const Sizes& sizes);

  uint64_t bytes() const { return memory_.size(); }
  const Activations& all() const { return all_; }
  // Tensors of one column each, over the memory of all().
  const Activations& lane(int32_t i) const { return lanes_[static_cast<size_t>(i)]; }
  int32_t n_lane() const { return static_cast<int32_t>(lanes_.size()); }
  ggml_tensor* logits() const { return logits_; }  // [n_vocab, Sizes::logits]

 private:
  EvaluationMemory() = default;
  void make_lanes(int32_t n_lane, int64_t n_expert_used);

  AlignedBuffer memory_;
  ggml_backend_buffer_ptr buffer_;
  ggml_context_ptr context_, lane_context_;
  Activations all_;
  std::vector<Activations> lanes_;
  ggml_tensor* logits_ = nullptr;
};

}  // namespace odmoe
