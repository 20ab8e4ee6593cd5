// MiniMax-M2: norms of queries and keys over all heads together, RoPE on half of a head, sigmoid routing with
// a selection bias, weights normalised, no shared expert.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_minimax_m2(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.gating_says = Says::kKey,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily,
                                                         .selection_bias = kSelectionBias},
                                                        RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kAllHeads;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
