// Laguna XS.2 and M.1: a gate on what attention gives, one per head or per value of it; in XS.2 a window in
// three of four layers, which have more heads and plain RoPE, and YaRN on half of a head in the others; norms
// of queries and keys, leading dense layers, sigmoid routing with a selection bias, a shared expert.
#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"
#include "odmoe/format.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_laguna(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.gating = Gating::kSigmoid,
                                                         .scales = true,
                                                         .selection_bias = kSelectionBias,
                                                         .heads_by_layer = true},
                                                        RopePairs::kHalves));
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff, m.integer("expert_shared_feed_forward_length", 1, 1 << 20));
  m.account().pass_over_key(m.key("expert_shared_count"), "expert_shared_feed_forward_length is of all");
  model.shape.shared.n_ff = n_ff;
  model.gqa.qk_norm = QkNorm::kPerHead;
  model.gqa.gate = AttentionGate::kSoftplus;
  ODMOE_RETURN_IF_ERROR(read_windows(
      m, {.required = false, .period = 4, .full_first = true, .rope = WindowRope::kPlain}, model));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    GqaShape& gqa = model.layers[i];
    const TensorInfo* gate = m.file().find_tensor(odmoe::format("blk.{}.attn_gate.weight", i));
    if (gate != nullptr && gate->ne[1] != gqa.n_head) gqa.gates_per_head = gqa.value_dim;
  }
  return make_gqa(std::move(model));
}

}  // namespace odmoe
