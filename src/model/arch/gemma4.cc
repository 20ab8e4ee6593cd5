// Gemma 4 26B-A4B: a dense network and experts side by side, each with norms of its own, a router with a norm
// of its own, factors on experts and layers; a window in most layers, the others with larger heads whose
// values are their keys and of which RoPE turns a part.
#include <cmath>
#include <vector>

#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

class Gemma4 final : public GqaArchitecture {
 public:
  explicit Gemma4(GqaModel model) : GqaArchitecture(std::move(model)) {
    layers_.resize(static_cast<size_t>(shape().n_layer));
  }

  void declare(DenseWeights& weights, int layer) override {
    GqaArchitecture::declare(weights, layer);
    Layer& w = layers_[static_cast<size_t>(layer)];
    const std::string prefix = odmoe::format("blk.{}.", layer);
    w.scale = weights.optional(prefix + "layer_output_scale.weight", {1});
    if (!shape().has_experts(layer)) return;
    w.expert_norm = weights.require(prefix + "pre_ffw_norm_2.weight", {shape().n_embd});
    w.expert_post_norm = weights.require(prefix + "post_ffw_norm_2.weight", {shape().n_embd});
  }

  ggml_tensor* expert_input(ggml_context* ctx, int layer, ggml_tensor* /*router_input*/,
                            ggml_tensor* residual) const override {
    return norm(ctx, residual, layers_[static_cast<size_t>(layer)].expert_norm, shape().norm_eps);
  }

  ggml_tensor* after_experts(ggml_context* ctx, int layer, ggml_tensor* sum,
                             ggml_tensor* /*router_logits*/) const override {
    return norm(ctx, sum, layers_[static_cast<size_t>(layer)].expert_post_norm, shape().norm_eps);
  }

  ggml_tensor* after_layer(ggml_context* ctx, int layer, ggml_tensor* x) const override {
    ggml_tensor* scale = layers_[static_cast<size_t>(layer)].scale;
    return scale == nullptr ? x : ggml_mul(ctx, x, scale);
  }

 private:
  struct Layer {
    ggml_tensor *expert_norm = nullptr, *expert_post_norm = nullptr;  // [n_embd]
    ggml_tensor* scale = nullptr;                                     // [1]; null: none
  };
  std::vector<Layer> layers_;
};

}  // namespace

Result<std::unique_ptr<Architecture>> make_gemma4(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kAnyRouter,
                                                         .gating_says = Says::kFamily,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily,
                                                         .by_layer = true,
                                                         .heads_by_layer = true},
                                                        RopePairs::kHalves));
  ModelShape& shape = model.shape;
  shape.activation = Activation::kGelu;
  shape.max_layer_nodes = 96;
  shape.shared = {.n_ff = shape.n_ff, .suffix = "", .post_norm = "post_ffw_norm_1"};
  LayerOptions& layer = shape.layer;
  layer.embedding_scale = std::sqrt(static_cast<float>(shape.n_embd));
  layer.attention_post_norm = "post_attention_norm";
  layer.ffn_post_norm = "post_ffw_norm";
  layer.router_input = RouterInput::kScaled;
  ODMOE_ASSIGN_OR_RETURN(layer.logit_cap, m.number("final_logit_softcapping"));
  const auto has = [&m](int number, std::string_view name) {
    return m.file().find_tensor(odmoe::format("blk.{}.{}", number, name)) != nullptr;
  };
  shape.extras.scales = has(shape.first_expert_layer(), "ffn_down_exps.scale");
  model.gqa.qk_norm = QkNorm::kPerHead;
  model.gqa.norm_values = true;
  model.gqa.kq_scale = 1;
  ODMOE_RETURN_IF_ERROR(read_windows(m, {.freq_base = 10000, .rope = WindowRope::kUnscaled}, model));
  model.rope_factors = RopeFactorKind::kOfModel;
  for (int i = 0; i < shape.n_layer; ++i) {
    GqaShape& gqa = model.layers[static_cast<size_t>(i)];
    gqa.rope_factors = gqa.rows.window == 0;
    if (!has(i, "attn_v.weight")) gqa.values = ValuesFrom::kKeys;
    if (gqa.rope_factors && m.file().find_tensor("rope_freqs.weight") == nullptr) {
      return fail(
          ErrorKind::kBadFile,
          "{}: the model has no tensor rope_freqs.weight, by which RoPE turns a part of layer {}'s heads",
          m.file().path().string(), i);
    }
  }
  return std::make_unique<Gemma4>(std::move(model));
}

}  // namespace odmoe
