// gpt-oss-20b and 120b (arXiv:2508.10925): a window in every second layer, sinks, biases everywhere, in
// routers and experts too, softmax over the chosen experts, a SwiGLU with limits.
#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_gpt_oss(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.gating = Gating::kSoftmaxOverChosen,
                                                         .gating_says = Says::kFamily,
                                                         .normalise = false,
                                                         .normalise_says = Says::kFamily},
                                                        RopePairs::kHalves));
  model.shape.layer.ffn_norm = "post_attention_norm";
  model.shape.activation = Activation::kSwigluOai;
  model.shape.router_bias = true;
  model.shape.extras.biases = true;
  model.gqa.output_bias = true;
  model.gqa.sinks = true;
  ODMOE_RETURN_IF_ERROR(read_windows(m, {.period = 2}, model));
  return make_gqa(std::move(model));
}

}  // namespace odmoe
