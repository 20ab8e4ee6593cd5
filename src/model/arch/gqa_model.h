// What most families are: grouped-query attention in every layer, and a shared expert or none.  Such a family
// is a set of options and a create function that fills it from the metadata.
#pragma once

#include <memory>

#include "model/arch/architecture.h"
#include "model/arch/metadata.h"
#include "model/blocks/attention.h"
#include "model/blocks/rope_factors.h"

namespace odmoe {

struct GqaModel {
  ModelShape shape;
  GqaShape gqa;
  RopeFactorKind rope_factors = RopeFactorKind::kNone;
  int32_t n_ctx_orig = 0;  // RopeFactors::n_ctx_orig
};

// Reads the shape, attention's (gqa: head_dim is attention.key_length, or n_embd / n_head where the file has
// no such key; norms, biases, limits and caps are the family's to add) and RoPE.  Errors: kUnsupported for
// what no such model has.
Result<GqaModel> read_gqa_model(const Metadata& metadata, const FamilyRules& rules, RopePairs pairs);

class GqaArchitecture : public Architecture {
 public:
  explicit GqaArchitecture(GqaModel model);

  std::vector<StateTensor> state(int layer) const override;
  void declare(DenseWeights& weights, int layer) override;
  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override;

 private:
  GqaModel model_;
  RopeFactors factors_;
  std::vector<GqaWeights> layers_;
};

// The architecture of options that are whole.
std::unique_ptr<Architecture> make_gqa(GqaModel model);

}  // namespace odmoe
