// DeepSeek-MoE-16B (arXiv:2401.06066): plain attention, leading dense layers, softmax routing, weights not
// normalised, shared experts.  bailingmoe, Ling-lite and Ling-plus (arXiv:2503.05139), is the same with
// weights normalised where its key says so.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

namespace {

Result<std::unique_ptr<Architecture>> make(const Metadata& m, Says normalise_says) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.gating_says = Says::kFamily,
                                                         .normalise = false,
                                                         .normalise_says = normalise_says,
                                                         .scales = true},
                                                        RopePairs::kAdjacent));
  model.rope_factors = RopeFactorKind::kOfModel;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff, read_shared_width(m, model.shape));
  model.shape.shared.n_ff = n_ff;
  return make_gqa(std::move(model));
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_deepseek(const Metadata& m) { return make(m, Says::kFamily); }
Result<std::unique_ptr<Architecture>> make_bailingmoe(const Metadata& m) { return make(m, Says::kFile); }

}  // namespace odmoe
