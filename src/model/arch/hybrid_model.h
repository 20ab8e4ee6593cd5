// Families with grouped-query attention in some layers and something recurrent in the others.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "model/arch/gqa_model.h"

namespace odmoe {

// A GqaArchitecture but for the layers that are recurrent: there it is a block of `Shape`, of which
//   kState(shape) says what it remembers, kDeclare(weights, shape, layer) returns its weights, and
//   kCompute(inputs, shape, weights, layer, x) is the layer.
template <auto kState, auto kDeclare, auto kCompute, typename Shape>
class HybridArchitecture : public GqaArchitecture {
 public:
  // recurrent: by layer.
  HybridArchitecture(GqaModel model, std::vector<bool> recurrent, const Shape& block,
                     std::unique_ptr<ResidualStreams> streams = {})
      : GqaArchitecture(std::move(model), std::move(streams)),
        recurrent_(std::move(recurrent)),
        block_(block) {
    blocks_.resize(static_cast<size_t>(shape().n_layer));
  }

  std::vector<StateTensor> state(int layer) const override {
    if (!shape().layer_parts(layer).attention) return {};
    return is_recurrent(layer) ? kState(block_) : GqaArchitecture::state(layer);
  }

  void declare(DenseWeights& weights, int layer) override {
    if (!shape().layer_parts(layer).attention) return;
    if (!is_recurrent(layer)) return GqaArchitecture::declare(weights, layer);
    blocks_[static_cast<size_t>(layer)] = kDeclare(weights, block_, layer);
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    if (!is_recurrent(layer)) return GqaArchitecture::attention(inputs, layer, x);
    return kCompute(inputs, block_, blocks_[static_cast<size_t>(layer)], layer, x);
  }

 protected:
  bool is_recurrent(int layer) const { return recurrent_[static_cast<size_t>(layer)]; }

 private:
  using Weights = decltype(kDeclare(std::declval<DenseWeights&>(), std::declval<const Shape&>(), 0));

  std::vector<bool> recurrent_;
  Shape block_;
  std::vector<Weights> blocks_;
};

template <auto kState, auto kDeclare, auto kCompute, typename Shape>
std::unique_ptr<Architecture> make_hybrid(GqaModel model, std::vector<bool> recurrent, const Shape& block) {
  return std::make_unique<HybridArchitecture<kState, kDeclare, kCompute, Shape>>(std::move(model),
                                                                                 std::move(recurrent), block);
}

}  // namespace odmoe
