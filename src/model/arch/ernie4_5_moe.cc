// ERNIE-4.5-21B-A3B and 300B-A47B: leading dense layers, experts in every layer or every n-th one, softmax
// routing with a selection bias on the probabilities, weights normalised, shared experts.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_ernie4_5_moe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kInterleaved,
                                                         .gating_says = Says::kFamily,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily,
                                                         .selection_bias = kSelectionBias},
                                                        RopePairs::kAdjacent));
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff,
                         m.integer_or("expert_shared_feed_forward_length", 0, 0, 1 << 20));
  m.account().pass_over_key(m.key("expert_shared_count"), "expert_shared_feed_forward_length is of all");
  model.shape.shared.n_ff = n_ff;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
