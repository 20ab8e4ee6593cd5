// Nemotron-H with experts (arXiv:2504.03624, Nemotron 3): each layer is Mamba-2, attention without positions,
// or experts; networks without gates, squared ReLU; sigmoid routing with a selection bias, a shared expert.
#include "model/arch/mamba2_hybrid.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_nemotron_h_moe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kAlone,
                                                         .gating = Gating::kSigmoid,
                                                         .gating_says = Says::kFamily,
                                                         .scales = true,
                                                         .selection_bias = kSelectionBias,
                                                         .by_layer = true},
                                                        RopePairs::kHalves));
  ODMOE_RETURN_IF_ERROR(forget_positions(m, model.gqa.rope));
  ModelShape& shape = model.shape;
  shape.layer.ffn_norm = "attn_norm";  // the norm of what the layer is
  shape.activation = Activation::kRelu;
  shape.ffn_gates = false;
  ODMOE_ASSIGN_OR_RETURN(const int32_t by_count, read_shared_width(m, shape));
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff,
                         m.integer_or("expert_shared_feed_forward_length", by_count, 0, 1 << 20));
  model.shape.shared.n_ff = n_ff;
  return make_mamba2_hybrid(m, std::move(model));
}

}  // namespace odmoe
