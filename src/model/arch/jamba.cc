// Jamba (arXiv:2403.19887): Mamba in most layers, attention without positions in the others; experts in some
// layers, dense networks in the others; softmax routing, weights not normalised.
#include "model/arch/hybrid_model.h"
#include "model/arch/registry.h"
#include "model/blocks/mamba1.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_jamba(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kAnyRouter,
                                                         .gating_says = Says::kFamily,
                                                         .normalise = false,
                                                         .normalise_says = Says::kFamily,
                                                         .by_layer = true},
                                                        RopePairs::kHalves));
  ODMOE_RETURN_IF_ERROR(forget_positions(m, model.gqa.rope));
  model.shape.max_layer_nodes = 96;
  constexpr int32_t kMost = 1 << 20;
  Mamba1Shape block{.n_embd = model.shape.n_embd, .norm_eps = model.shape.norm_eps};
  ODMOE_ASSIGN_OR_RETURN(block.n_inner, m.integer("ssm.inner_size", 1, kMost));
  ODMOE_ASSIGN_OR_RETURN(block.dt_rank, m.integer("ssm.time_step_rank", 1, kMost));
  ODMOE_ASSIGN_OR_RETURN(block.d_state, m.integer("ssm.state_size", 2, 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(block.n_tap, m.integer("ssm.conv_kernel", 2, 64));
  ODMOE_ASSIGN_OR_RETURN(std::vector<bool> recurrent, read_recurrent_layers(m, model.shape));
  return make_hybrid<mamba1_state, declare_mamba1, mamba1>(std::move(model), std::move(recurrent), block);
}

}  // namespace odmoe
