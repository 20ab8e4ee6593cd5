// Qwen3-Next and Qwen3.5 MoE: gated attention in every fourth layer, Gated DeltaNet in the others; softmax
// routing, weights normalised, a shared expert behind a sigmoid gate.
#include <memory>
#include <utility>

#include "model/arch/delta_net_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_qwen3next(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(DeltaNetModel model, read_delta_net_model(m));
  model.gqa.shape.layer.ffn_norm = "post_attention_norm";
  if (m.arch() == "qwen3next") {
    model.delta_net.joint_beta_alpha = true;
    model.delta_net.key_heads = KeyHeads::kDivided;
  }
  return std::make_unique<DeltaNetArchitecture>(std::move(model.gqa), std::move(model.recurrent),
                                                model.delta_net);
}

}  // namespace odmoe
