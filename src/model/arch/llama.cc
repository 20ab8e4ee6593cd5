// Mixtral (arXiv:2401.04088): Llama with experts, softmax over the chosen ones, which is a softmax over all
// and then normalised.  Converters permuted queries and keys, so that adjacent pairs turn.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_llama(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kAdjacent));
  model.rope_factors = RopeFactorKind::kOfModel;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
