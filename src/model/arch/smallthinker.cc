// SmallThinker 4B-A0.6B and 21B-A3B (arXiv:2507.20984): the router sees what the layer began with, before any
// norm, so that experts can be read while attention is computed; ReLU gates; every fourth layer sees
// everything and has no RoPE, the others have a window of 4096.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {
namespace {

constexpr int32_t kPublishedWindow = 4096;
constexpr int32_t kWindowStep = 4;

}  // namespace

Result<std::unique_ptr<Architecture>> make_smallthinker(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kKey, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  model.shape.activation = Activation::kRelu;
  model.shape.layer.router_input = RouterInput::kLayerInput;
  // llama.cpp computes with this window and this step whatever the file says, but for a window of 0: then all
  // layers see everything, with RoPE.
  ODMOE_ASSIGN_OR_RETURN(const int32_t window, m.integer_or("attention.sliding_window", 0, 0, INT32_MAX));
  if (window == 0) return make_gqa(std::move(model));
  ODMOE_ASSIGN_OR_RETURN(const int32_t step,
                         m.integer_or("attention.sliding_window_pattern", kWindowStep, 0, INT32_MAX));
  if (window != kPublishedWindow || step != kWindowStep) {
    return fail(ErrorKind::kUnsupported,
                "{}: {} is {} with a pattern of {}, not {} with a pattern of {}, which {} models have",
                m.file().path().string(), m.key("attention.sliding_window"), window, step, kPublishedWindow,
                kWindowStep, m.arch());
  }
  for (int32_t i = 0; i < model.shape.n_layer; ++i) {
    GqaShape gqa = model.gqa;
    if (i % kWindowStep != 0) {
      gqa.rows = {.window = kPublishedWindow};
    } else if (model.shape.n_layer != kWindowStep) {  // as llama.cpp, which takes that number for no step
      gqa.rope.n_rot = 0;
    }
    model.layers.push_back(gqa);
  }
  return make_gqa(std::move(model));
}

}  // namespace odmoe
