// MiMo-V2-Flash: a window with sinks in most layers, which have KV heads and a RoPE base of their own; values
// shorter than keys, RoPE on a part of a head, what attention gives scaled; sigmoid routing with a selection
// bias, weights normalised; dense layers are those without a router.
#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"
#include "odmoe/format.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_mimo2(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kAnyRouter,
                                                         .gating = Gating::kSigmoid,
                                                         .gating_says = Says::kFamily,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily,
                                                         .selection_bias = kSelectionBias,
                                                         .heads_by_layer = true,
                                                         .own_value_length = true},
                                                        RopePairs::kHalves));
  ODMOE_ASSIGN_OR_RETURN(model.gqa.output_scale, m.factor_or_one("attention.value_scale"));
  ODMOE_RETURN_IF_ERROR(read_windows(m, {.freq_base = 10000, .rope = WindowRope::kUnscaled}, model));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    model.layers[i].sinks = m.file().find_tensor(odmoe::format("blk.{}.attn_sinks.weight", i)) != nullptr;
  }
  return make_gqa(std::move(model));
}

}  // namespace odmoe
