#include "model/arch/kda_mla_model.h"

#include <utility>

namespace odmoe {

Result<KdaMlaModel> read_kda_mla_model(const Metadata& m, const FamilyRules& rules, RopePairs pairs,
                                       MlaPositions positions) {
  KdaMlaModel model;
  ODMOE_ASSIGN_OR_RETURN(model.mla, read_mla_model(m, rules, pairs, positions));
  model.mla.shape.max_layer_nodes = 128;
  const ModelShape& shape = model.mla.shape;
  model.kda = {.n_embd = shape.n_embd, .n_head = shape.n_head, .norm_eps = shape.norm_eps};
  ODMOE_ASSIGN_OR_RETURN(model.kda.head_dim, m.integer("kda.head_dim", 1, 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(model.kda.n_tap, m.integer("ssm.conv_kernel", 2, 64));
  ODMOE_ASSIGN_OR_RETURN(model.recurrent, read_recurrent_layers(m, shape));
  return model;
}

Status read_gate_bound(const Metadata& m, KdaShape& kda) {
  ODMOE_ASSIGN_OR_RETURN(kda.gate_lower_bound, m.number_or("kda.gate_lower_bound", 0));
  if (kda.gate_lower_bound <= 0) return {};
  return fail(ErrorKind::kBadFile, "{}: {} is {}; a negative number was expected", m.file().path().string(),
              m.key("kda.gate_lower_bound"), kda.gate_lower_bound);
}

KdaMlaArchitecture::KdaMlaArchitecture(KdaMlaModel model, std::unique_ptr<ResidualStreams> streams)
    : Architecture(model.mla.shape, std::move(streams)), model_(std::move(model)) {
  layers_.resize(static_cast<size_t>(shape().n_layer));
}

std::vector<StateTensor> KdaMlaArchitecture::state(int layer) const {
  return is_recurrent(layer) ? kda_state(model_.kda)
                             : std::vector{StateTensor::rows(mla_shape().cache_row())};
}

void KdaMlaArchitecture::declare(DenseWeights& weights, int layer) {
  Layer& w = layers_[static_cast<size_t>(layer)];
  if (is_recurrent(layer)) {
    w.kda = declare_kda(weights, model_.kda, layer);
  } else {
    w.mla = declare_mla(weights, mla_shape(), layer);
  }
}

ggml_tensor* KdaMlaArchitecture::attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const {
  const Layer& w = layers_[static_cast<size_t>(layer)];
  return is_recurrent(layer) ? kda(inputs, model_.kda, w.kda, layer, x)
                             : mla(inputs, mla_shape(), w.mla, layer, x);
}

}  // namespace odmoe
