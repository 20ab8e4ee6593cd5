// Grok-1 and Grok-2: factors on the embedding and the logits, soft caps on both attention's logits and the
// model's, norms after attention and experts, GELU; in Grok-2 a dense network beside the experts, and the sum
// of both over the square root of 2.
#include <numbers>

#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

namespace {

// Grok-1's, where a file has none.
constexpr float kEmbeddingScale = 78.38367176906169F;
constexpr float kLogitScale = 0.5773502691896257F;
constexpr float kAttentionScale = 0.08838834764831845F;
constexpr float kCap = 30;

bool has(const Metadata& m, const char* tensor) { return m.file().find_tensor(tensor) != nullptr; }

}  // namespace

Result<std::unique_ptr<Architecture>> make_grok(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.gating_says = Says::kFamily,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily,
                                                         .yarn_beta_fast = 8},
                                                        RopePairs::kHalves));
  model.shape.activation = Activation::kGelu;
  LayerOptions& layer = model.shape.layer;
  layer.attention_post_norm = "attn_output_norm";
  layer.ffn_post_norm = has(m, "blk.0.layer_output_norm.weight") ? "layer_output_norm" : "post_ffw_norm";
  ODMOE_ASSIGN_OR_RETURN(layer.embedding_scale, m.number_or("embedding_scale", kEmbeddingScale));
  ODMOE_ASSIGN_OR_RETURN(layer.logit_scale, m.number_or("logit_scale", kLogitScale));
  ODMOE_ASSIGN_OR_RETURN(layer.logit_cap, m.number_or("final_logit_softcapping", 0));
  ODMOE_ASSIGN_OR_RETURN(model.gqa.kq_scale, m.number_or("attention.output_scale", kAttentionScale));
  ODMOE_ASSIGN_OR_RETURN(model.gqa.kq_cap, m.number_or("attn_logit_softcapping", kCap));
  m.account().pass_over_key(m.key("router_logit_softcapping"),
                            "llama.cpp, which made such files, computes routers without it");
  if (has(m, "blk.0.ffn_up.weight")) {
    model.shape.shared.n_ff = model.shape.n_ff;
    model.shape.shared.suffix = "";
    layer.mlp_scale = 1 / std::numbers::sqrt2_v<float>;
  }
  return make_gqa(std::move(model));
}

}  // namespace odmoe
