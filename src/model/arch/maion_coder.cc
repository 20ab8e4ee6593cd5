// Maion Coder: experts in a space of their own width in every n-th layer, norms after attention and MLP,
// norms of queries and keys, a window and RoPE in some layers, neither in the others.
#include <vector>

#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

class MaionCoder final : public GqaArchitecture {
 public:
  explicit MaionCoder(GqaModel model) : GqaArchitecture(std::move(model)) {
    latents_.resize(static_cast<size_t>(shape().n_layer));
  }

  void declare(DenseWeights& weights, int layer) override {
    GqaArchitecture::declare(weights, layer);
    if (!shape().has_experts(layer)) return;
    const std::string prefix = odmoe::format("blk.{}.ffn_latent_", layer);
    latents_[static_cast<size_t>(layer)] = {
        .down = weights.require_matrix(prefix + "down.weight", shape().n_embd, shape().expert_width()),
        .up = weights.require_matrix(prefix + "up.weight", shape().expert_width(), shape().n_embd)};
  }

  ggml_tensor* expert_input(ggml_context* ctx, int layer, ggml_tensor* router_input,
                            ggml_tensor* /*residual*/) const override {
    return ggml_mul_mat(ctx, latents_[static_cast<size_t>(layer)].down, router_input);
  }

  ggml_tensor* after_experts(ggml_context* ctx, int layer, ggml_tensor* sum,
                             ggml_tensor* /*router_logits*/) const override {
    return ggml_mul_mat(ctx, latents_[static_cast<size_t>(layer)].up, sum);
  }

 private:
  struct Latent {
    ggml_tensor* down = nullptr;  // [n_embd, expert_width()]
    ggml_tensor* up = nullptr;    // [expert_width(), n_embd]
  };
  std::vector<Latent> latents_;
};

}  // namespace

Result<std::unique_ptr<Architecture>> make_maion_coder(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.expert_layers = ExpertLayers::kInterleaved,
                                                         .gating_says = Says::kFamily,
                                                         .normalise = true,
                                                         .normalise_says = Says::kFamily},
                                                        RopePairs::kHalves));
  ODMOE_ASSIGN_OR_RETURN(model.shape.n_embd_exp, m.integer("moe_latent_size", 1, 1 << 20));
  model.shape.layer.attention_post_norm = "post_attention_norm";
  model.shape.layer.ffn_post_norm = "post_ffw_norm";
  model.gqa.qk_norm = QkNorm::kPerHead;
  ODMOE_RETURN_IF_ERROR(read_windows(m, {.own_freq_base = false, .full_rope = false}, model));
  return std::make_unique<MaionCoder>(std::move(model));
}

}  // namespace odmoe
