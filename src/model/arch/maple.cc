// Maple: Qwen3 MoE with a window and RoPE in most layers, neither in the others, and limits of the experts'
// SwiGLUs.
#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_maple(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  constexpr float kLimit = 7;  // of files that are older than the key
  SwigluLimits& limits = model.shape.limits;
  limits.experts.assign(static_cast<size_t>(model.shape.n_layer), kLimit);
  if (m.has("swiglu_clamp_exp")) {
    ODMOE_ASSIGN_OR_RETURN(limits.experts, m.numbers("swiglu_clamp_exp", model.shape.n_layer));
  }
  model.gqa.qk_norm = QkNorm::kPerHead;
  ODMOE_RETURN_IF_ERROR(read_windows(m, {.full_rope = false}, model));
  return make_gqa(std::move(model));
}

}  // namespace odmoe
