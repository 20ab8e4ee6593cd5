// Step-3.5-Flash: a window in most layers, which have other heads and a RoPE base of their own, RoPE on half
// as many dimensions in the others; a gate per head on what attention gives, norms of queries and keys,
// sigmoid routing with a selection bias, a shared expert, limits of SwiGLUs; dense layers are those without a
// router.
#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"
#include "odmoe/format.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_step35(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kAnyRouter,
                                                         .gating = Gating::kSigmoid,
                                                         .scales = true,
                                                         .selection_bias = kSelectionBias,
                                                         .heads_by_layer = true},
                                                        RopePairs::kHalves));
  ModelShape& shape = model.shape;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff, m.integer("expert_shared_feed_forward_length", 1, 1 << 20));
  shape.shared.n_ff = n_ff;
  ODMOE_ASSIGN_OR_RETURN(shape.limits, read_swiglu_limits(m, shape, SwigluLimit::kActivated));
  const auto has = [&m](size_t layer, std::string_view name) {
    return m.file().find_tensor(odmoe::format("blk.{}.{}", layer, name)) != nullptr;
  };
  if (has(0, "attn_q_norm.weight")) model.gqa.qk_norm = QkNorm::kPerHead;
  model.rope_factors = RopeFactorKind::kOfModel;
  ODMOE_RETURN_IF_ERROR(read_windows(m, {.freq_base = 10000, .rope = WindowRope::kUnscaled}, model));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    GqaShape& gqa = model.layers[i];
    const bool windowed = gqa.rows.window > 0;
    gqa.rope_factors = !windowed;
    if (!windowed) gqa.rope.n_rot /= 2;
    if (has(i, "attn_gate.weight")) gqa.gate = AttentionGate::kSigmoid;
  }
  return make_gqa(std::move(model));
}

}  // namespace odmoe
