// DeepSeek-V2, V2-Lite, V3, R1 and Kimi-K2, K2.5 (arXiv:2405.04434, 2412.19437): multi-head latent attention,
// leading dense layers, shared experts, softmax or sigmoid routing with a selection bias and expert groups.
// Mistral Small 4 and Mistral Large 3 have the same graph, and queries that grow with their position.
#include "model/arch/architecture.h"
#include "model/arch/metadata.h"
#include "model/arch/mla_model.h"
#include "model/arch/registry.h"
#include "model/blocks/mla.h"

namespace odmoe {
namespace {

class Deepseek2 final : public Architecture {
 public:
  Deepseek2(ModelShape shape, const MlaShape& mla) : Architecture(std::move(shape)), mla_(mla) {
    layers_.resize(static_cast<size_t>(this->shape().n_layer));
  }

  std::vector<StateTensor> state(int /*layer*/) const override {
    return {StateTensor::rows(mla_.cache_row())};
  }

  void declare(DenseWeights& weights, int layer) override {
    layers_[static_cast<size_t>(layer)] = declare_mla(weights, mla_, layer);
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    return mla(inputs, mla_, layers_[static_cast<size_t>(layer)], layer, x);
  }

  bool scales_queries() const override { return mla_.temperature.scale != 0; }
  float query_scale(int64_t position) const override { return mla_.temperature.at(position); }

 private:
  MlaShape mla_;
  std::vector<MlaWeights> layers_;
};

Result<QueryTemperature> read_temperature(const Metadata& m) {
  QueryTemperature temperature;
  ODMOE_ASSIGN_OR_RETURN(temperature.scale, m.number_or("attention.temperature_scale", 0));
  const bool on = temperature.scale != 0;
  ODMOE_ASSIGN_OR_RETURN(const int32_t length,
                         m.integer_or("attention.temperature_length", 0, on ? 1 : 0, INT32_MAX));
  if (on && length == 0) {
    return fail(ErrorKind::kBadFile, "{}: {} without {}; download the model again", m.file().path().string(),
                m.key("attention.temperature_scale"), m.key("attention.temperature_length"));
  }
  temperature.length = static_cast<uint32_t>(length);
  return temperature;
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_deepseek2(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(MlaModel model,
                         read_mla_model(m, {.scales = true, .selection_bias = kSelectionBias}));
  // Files of GLM-4.7-Flash were made before its converter said how it routes; it is known by its sizes, as in
  // llama.cpp.
  constexpr int32_t kGlmVocabulary = 154880;
  ModelShape& shape = model.shape;
  if (!m.has("expert_gating_func") && (shape.n_layer == 47 || shape.n_layer == 48) &&
      shape.n_vocab == kGlmVocabulary) {
    shape.router.gating = Gating::kSigmoid;
  }
  ODMOE_ASSIGN_OR_RETURN(model.mla.temperature, read_temperature(m));
  return std::make_unique<Deepseek2>(std::move(shape), model.mla);
}

}  // namespace odmoe
