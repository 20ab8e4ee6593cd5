// Llama 4 Scout and Maverick: attention in chunks of 8192 tokens, but for every fourth layer, which sees
// everything, has no RoPE and scales its queries by position; norms without weights behind RoPE in Scout; the
// sigmoid of a router's logit multiplies what the expert sees; a shared expert.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {
namespace {

constexpr int32_t kChunk = 8192;
constexpr int kFullLayerStep = 4;
constexpr int32_t kExpertsOfMaverick = 128;

}  // namespace

Result<std::unique_ptr<Architecture>> make_llama4(const Metadata& m) {
  // llama.cpp computes with this window whatever the file says, but for 0: then there are no chunks, which no
  // model with experts has.
  ODMOE_ASSIGN_OR_RETURN(const int32_t window,
                         m.integer_or("attention.sliding_window", kChunk, 0, INT32_MAX));
  if (window != kChunk) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}, not {}, which {} models have",
                m.file().path().string(), m.key("attention.sliding_window"), window, kChunk, m.arch());
  }
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kInterleaved,
                                                         .gating = Gating::kSigmoid,
                                                         .gating_says = Says::kFamily,
                                                         .normalise = false,
                                                         .normalise_says = Says::kFamily},
                                                        RopePairs::kAdjacent));
  ModelShape& shape = model.shape;
  shape.router.gating = Gating::kSigmoidOfChosen;
  shape.extras.weigh_input = true;
  shape.shared.n_ff = shape.n_ff_exp;
  model.rope_factors = RopeFactorKind::kOfModel;
  model.temperature = {.scale = 0.1F, .length = kChunk, .offset = 1};
  GqaShape chunked = model.gqa;
  chunked.rows = {.window = kChunk, .aligned = true};
  if (shape.router.n_expert != kExpertsOfMaverick) {
    chunked.qk_norm = QkNorm::kUnweighted;
    chunked.norm_after_rope = true;
  }
  GqaShape full = model.gqa;
  full.rope.n_rot = 0;
  full.scale_queries = true;
  for (int i = 0; i < shape.n_layer; ++i) {
    model.layers.push_back((i + 1) % kFullLayerStep == 0 ? full : chunked);
  }
  return make_gqa(std::move(model));
}

}  // namespace odmoe
