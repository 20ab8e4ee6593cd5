// Hunyuan 3: norms of queries and keys per head, the first layers dense, sigmoid routing with a selection
// bias, a shared expert; blocks for speculation behind the layers.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_hy_v3(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kWithRouter,
                                                         .gating = Gating::kSigmoid,
                                                         .scales = true,
                                                         .selection_bias = "exp_probs_b"},
                                                        RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kPerHead;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff,
                         m.integer_or("expert_shared_feed_forward_length", 0, 0, 1 << 20));
  model.shape.shared.n_ff = n_ff;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
