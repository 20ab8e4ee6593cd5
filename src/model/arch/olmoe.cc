// OLMoE-1B-7B (arXiv:2409.02060): norms of queries and keys over all heads together, softmax routing, weights
// not normalised.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_olmoe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = false, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kAllHeads;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
