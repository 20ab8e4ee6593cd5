// What most families are: grouped-query attention in every layer, alike or not, and a shared expert or none.
// Such a family is a set of options and a create function that fills it from the metadata.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "model/arch/architecture.h"
#include "model/arch/metadata.h"
#include "model/blocks/attention.h"
#include "model/blocks/query_temperature.h"
#include "model/blocks/rope_factors.h"

namespace odmoe {

struct GqaModel {
  ModelShape shape;
  GqaShape gqa;
  std::vector<GqaShape> layers;  // where they are not all alike; else empty
  QueryTemperature temperature;  // of GqaShape::scale_queries
  RopeFactorKind rope_factors = RopeFactorKind::kNone;
  int32_t n_ctx_orig = 0;  // RopeFactors::n_ctx_orig
};

// Reads the shape, attention's (gqa: head_dim is attention.key_length, or n_embd / n_head where the file has
// no such key; norms, biases, limits and caps are the family's to add) and RoPE.  Layers that differ are read
// by arch/windowed_model.h.  Errors: kUnsupported for what no such model has.
Result<GqaModel> read_gqa_model(const Metadata& metadata, const FamilyRules& rules, RopePairs pairs);

class GqaArchitecture : public Architecture {
 public:
  explicit GqaArchitecture(GqaModel model, std::unique_ptr<ResidualStreams> streams = {});

  std::vector<StateTensor> state(int layer) const override;
  void declare(DenseWeights& weights, int layer) override;
  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override;
  bool scales_queries() const override { return model_.temperature.scale != 0; }
  float query_scale(int64_t position) const override { return model_.temperature.at(position); }

 protected:
  const GqaShape& gqa_shape(int layer) const {
    return model_.layers.empty() ? model_.gqa : model_.layers[static_cast<size_t>(layer)];
  }
  // The same as attention(), of values that are given (ValuesFrom::kCaller).
  ggml_tensor* attention_to(const LayerInputs& inputs, int layer, ggml_tensor* x, ggml_tensor* values) const;
  // The same as attention(), with GqaGiven::masks.
  ggml_tensor* attention_by(const LayerInputs& inputs, int layer, ggml_tensor* x,
                            std::span<ggml_tensor* const> masks) const;

 private:
  ggml_tensor* attention_of(const LayerInputs& inputs, int layer, ggml_tensor* x, GqaGiven given) const;

  GqaModel model_;
  RopeFactors factors_;
  std::vector<GqaWeights> layers_;
};

// The architecture of options that are whole.
std::unique_ptr<Architecture> make_gqa(GqaModel model);

}  // namespace odmoe
