// What the Qwen mixture-of-experts families share: grouped-query attention and no dense lead.
#pragma once

#include <vector>

#include "model/arch/architecture.h"
#include "model/arch/metadata.h"
#include "model/blocks/attention.h"

namespace odmoe {

// Errors: kUnsupported for what no such model has.  head_dim is attention.key_length, or n_embd / n_head
// where the file has no such key.
Result<GqaShape> read_gqa_shape(const Metadata& metadata, const ModelShape& shape);

class QwenAttention : public Architecture {
 public:
  std::vector<StateTensor> state(int /*layer*/) const override { return gqa_state(gqa_); }
  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    return gqa(inputs, gqa_, layers_[static_cast<size_t>(layer)], layer, x);
  }

 protected:
  QwenAttention(ModelShape shape, const GqaShape& gqa) : Architecture(std::move(shape)), gqa_(gqa) {
    layers_.resize(static_cast<size_t>(this->shape().n_layer));
  }
  void declare_attention(DenseWeights& weights, int layer, bool with_norms) {
    layers_[static_cast<size_t>(layer)] = declare_gqa(weights, gqa_, layer, with_norms);
  }

 private:
  GqaShape gqa_;
  std::vector<GqaWeights> layers_;
};

}  // namespace odmoe
