// Mellum 2: Qwen3 MoE with a window and plain RoPE in three of four layers, YaRN in the others.
#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_mellum(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kPerHead;
  ODMOE_RETURN_IF_ERROR(read_windows(
      m, {.required = false, .period = 4, .own_freq_base = false, .rope = WindowRope::kPlain}, model));
  return make_gqa(std::move(model));
}

}  // namespace odmoe
