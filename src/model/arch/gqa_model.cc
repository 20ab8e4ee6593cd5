#include "model/arch/gqa_model.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace odmoe {

Result<GqaModel> read_gqa_model(const Metadata& m, const FamilyRules& rules, RopePairs pairs) {
  GqaModel model;
  ODMOE_ASSIGN_OR_RETURN(model.shape, read_shape(m, rules));
  const ModelShape& shape = model.shape;
  model.gqa = {.n_embd = shape.n_embd,
               .n_head = shape.n_head,
               .n_head_kv = shape.n_head_kv,
               .norm_eps = shape.norm_eps,
               .rope = {}};
  ODMOE_ASSIGN_OR_RETURN(const int32_t key,
                         m.integer_or("attention.key_length", shape.n_embd / shape.n_head, 2, 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(const int32_t value, m.integer_or("attention.value_length", key, 2, 1 << 16));
  if (key != value && !rules.own_value_length) {
    return fail(ErrorKind::kUnsupported,
                "{}: keys of {} and values of {} dimensions per head; they must be equal",
                m.file().path().string(), key, value);
  }
  model.gqa.head_dim = key;
  model.gqa.value_dim = value;
  model.gqa.kq_scale = 1.0F / std::sqrt(static_cast<float>(key));
  ODMOE_ASSIGN_OR_RETURN(model.gqa.rope, read_rope(m.account(), m.arch(), pairs, key, rules.yarn_beta_fast));
  return model;
}

GqaArchitecture::GqaArchitecture(GqaModel model, std::unique_ptr<ResidualStreams> streams)
    : Architecture(model.shape, std::move(streams)), model_(std::move(model)) {
  layers_.resize(static_cast<size_t>(shape().n_layer));
}

std::vector<StateTensor> GqaArchitecture::state(int layer) const { return gqa_state(gqa_shape(layer)); }

void GqaArchitecture::declare(DenseWeights& weights, int layer) {
  if (layer == 0) {
    int32_t n_rot = model_.gqa.rope.n_rot;
    for (const GqaShape& shape : model_.layers) n_rot = std::max(n_rot, shape.rope.n_rot);
    factors_ = declare_rope_factors(weights, model_.rope_factors, n_rot, model_.n_ctx_orig);
  }
  layers_[static_cast<size_t>(layer)] = declare_gqa(weights, gqa_shape(layer), layer);
}

ggml_tensor* GqaArchitecture::attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const {
  return attention_of(inputs, layer, x, {});
}

ggml_tensor* GqaArchitecture::attention_to(const LayerInputs& inputs, int layer, ggml_tensor* x,
                                           ggml_tensor* values) const {
  return attention_of(inputs, layer, x, {.values = values});
}

ggml_tensor* GqaArchitecture::attention_by(const LayerInputs& inputs, int layer, ggml_tensor* x,
                                           std::span<ggml_tensor* const> masks) const {
  return attention_of(inputs, layer, x, {.masks = masks});
}

ggml_tensor* GqaArchitecture::attention_of(const LayerInputs& inputs, int layer, ggml_tensor* x,
                                           GqaGiven given) const {
  given.factors = factors_.at(inputs.state->rows(layer, 0)->ne[1]);
  return gqa(inputs, gqa_shape(layer), layers_[static_cast<size_t>(layer)], layer, x, given);
}

std::unique_ptr<Architecture> make_gqa(GqaModel model) {
  return std::make_unique<GqaArchitecture>(std::move(model));
}

}  // namespace odmoe
