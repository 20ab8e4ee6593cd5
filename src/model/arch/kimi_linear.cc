// Kimi Linear (arXiv:2510.26692): Kimi Delta Attention in three layers of four, multi-head latent attention
// without positions in the others, leading dense layers, sigmoid routing with a selection bias, weights
// normalised, shared experts.
#include "model/arch/mla_model.h"
#include "model/arch/registry.h"
#include "model/blocks/kda.h"

namespace odmoe {
namespace {

class KimiLinear final : public Architecture {
 public:
  KimiLinear(MlaModel model, std::vector<bool> recurrent, const KdaShape& kda)
      : Architecture(std::move(model.shape)), mla_(model.mla), kda_(kda), recurrent_(std::move(recurrent)) {
    layers_.resize(static_cast<size_t>(shape().n_layer));
  }

  std::vector<StateTensor> state(int layer) const override {
    return is_recurrent(layer) ? kda_state(kda_) : std::vector{StateTensor::rows(mla_.cache_row())};
  }

  void declare(DenseWeights& weights, int layer) override {
    Layer& w = layers_[static_cast<size_t>(layer)];
    if (is_recurrent(layer)) {
      w.kda = declare_kda(weights, kda_, layer);
    } else {
      w.mla = declare_mla(weights, mla_, layer);
    }
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    const Layer& w = layers_[static_cast<size_t>(layer)];
    return is_recurrent(layer) ? kda(inputs, kda_, w.kda, layer, x) : mla(inputs, mla_, w.mla, layer, x);
  }

 private:
  struct Layer {
    MlaWeights mla;
    KdaWeights kda;
  };
  bool is_recurrent(int layer) const { return recurrent_[static_cast<size_t>(layer)]; }

  MlaShape mla_;
  KdaShape kda_;
  std::vector<bool> recurrent_;
  std::vector<Layer> layers_;
};

}  // namespace

Result<std::unique_ptr<Architecture>> make_kimi_linear(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(MlaModel model, read_mla_model(m, {.gating = Gating::kSigmoid,
                                                            .gating_says = Says::kKey,
                                                            .normalise = true,
                                                            .normalise_says = Says::kFamily,
                                                            .scales = true,
                                                            .selection_bias = kSelectionBias,
                                                            .by_layer = true}));
  ODMOE_RETURN_IF_ERROR(forget_positions(m, model.mla.rope));
  model.shape.max_layer_nodes = 128;
  KdaShape kda{.n_embd = model.shape.n_embd, .n_head = model.shape.n_head, .norm_eps = model.shape.norm_eps};
  ODMOE_ASSIGN_OR_RETURN(kda.head_dim, m.integer("kda.head_dim", 1, 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(kda.n_tap, m.integer("ssm.conv_kernel", 2, 64));
  ODMOE_ASSIGN_OR_RETURN(std::vector<bool> recurrent, read_recurrent_layers(m, model.shape));
  return std::make_unique<KimiLinear>(std::move(model), std::move(recurrent), kda);
}

}  // namespace odmoe
