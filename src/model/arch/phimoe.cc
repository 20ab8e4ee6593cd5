// Phi-3.5-MoE (arXiv:2404.14219): norms with biases, of which llama.cpp computes RMS norms, biases on all of
// attention and on the head, RoPE's angles by the length of the context, softmax routing, weights normalised.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_phimoe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  model.shape.layer.norm_bias = true;
  model.shape.layer.output_bias = true;
  model.gqa.output_bias = true;
  if (m.file().find_tensor("rope_factors_short.weight") != nullptr) {
    model.rope_factors = RopeFactorKind::kByContext;
    ODMOE_ASSIGN_OR_RETURN(model.n_ctx_orig, m.integer_or("rope.scaling.original_context_length",
                                                          model.shape.n_context_train, 1, INT32_MAX));
  }
  return make_gqa(std::move(model));
}

}  // namespace odmoe
