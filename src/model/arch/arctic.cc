// Snowflake Arctic: in every layer a dense network behind attention, and experts that see what the layer
// began with; softmax routing, weights normalised.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_arctic(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kAdjacent));
  model.shape.layer.expert_norm = "ffn_norm_exps";
  model.shape.shared.n_ff = model.shape.n_embd;
  model.shape.shared.suffix = "";
  return make_gqa(std::move(model));
}

}  // namespace odmoe
