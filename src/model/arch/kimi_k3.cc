// Kimi-K3: Kimi Linear with residual attention over banked layers, routed experts in a latent space, SiTU in
// every feed-forward network, gates of latent attention, and a bounded gate of Kimi Delta Attention.
#include <memory>
#include <utility>
#include <vector>

#include "model/arch/kda_mla_model.h"
#include "model/arch/registry.h"
#include "model/blocks/residual_attention.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

class KimiK3 final : public KdaMlaArchitecture {
 public:
  KimiK3(KdaMlaModel model, std::unique_ptr<ResidualStreams> streams)
      : KdaMlaArchitecture(std::move(model), std::move(streams)) {
    latents_.resize(static_cast<size_t>(shape().n_layer));
  }

  void declare(DenseWeights& weights, int layer) override {
    KdaMlaArchitecture::declare(weights, layer);
    if (shape().n_embd_exp == 0 || !shape().has_experts(layer)) return;
    const std::string prefix = odmoe::format("blk.{}.ffn_routed_", layer);
    const int64_t width = shape().expert_width();
    latents_[static_cast<size_t>(layer)] = {
        .down = weights.require_matrix(prefix + "down.weight", shape().n_embd, width),
        .norm = weights.optional(prefix + "norm.weight", {width}),
        .up = weights.require_matrix(prefix + "up.weight", width, shape().n_embd)};
  }

  ggml_tensor* expert_input(ggml_context* ctx, int layer, ggml_tensor* router_input,
                            ggml_tensor* /*residual*/) const override {
    return ggml_mul_mat(ctx, latents_[static_cast<size_t>(layer)].down, router_input);
  }

  ggml_tensor* after_experts(ggml_context* ctx, int layer, ggml_tensor* sum,
                             ggml_tensor* /*router_logits*/) const override {
    const Latent& w = latents_[static_cast<size_t>(layer)];
    if (w.up == nullptr) return sum;
    if (w.norm != nullptr) sum = norm(ctx, sum, w.norm, shape().norm_eps);
    return ggml_mul_mat(ctx, w.up, sum);
  }

 private:
  // Of the routed experts' latent space.
  struct Latent {
    ggml_tensor* down = nullptr;  // [n_embd, expert_width]
    ggml_tensor* norm = nullptr;  // [expert_width]; null: none
    ggml_tensor* up = nullptr;    // [expert_width, n_embd]
  };
  std::vector<Latent> latents_;
};

// Whether layers with latent attention have gates.
bool has_gates(const Metadata& m, const std::vector<bool>& recurrent) {
  for (size_t layer = 0; layer < recurrent.size(); ++layer) {
    if (recurrent[layer]) continue;
    return m.file().find_tensor(odmoe::format("blk.{}.attn_gate.weight", layer)) != nullptr;
  }
  return false;
}

Status read_situ(const Metadata& m, ModelShape& shape) {
  shape.activation = Activation::kSitu;
  ODMOE_ASSIGN_OR_RETURN(shape.situ.beta, m.positive("activation.situ_beta"));
  ODMOE_ASSIGN_OR_RETURN(shape.situ.linear_beta, m.number("activation.situ_linear_beta"));
  return {};
}

Result<std::unique_ptr<ResidualStreams>> read_residual_attention(const Metadata& m, const ModelShape& shape) {
  ResidualAttentionShape streams{
      .n_embd = shape.n_embd, .n_layer = shape.n_layer, .norm_eps = shape.norm_eps};
  ODMOE_ASSIGN_OR_RETURN(streams.block_size, m.integer("attn_res.block_size", 0, 1 << 20));
  if (streams.block_size == 0) return nullptr;
  return std::make_unique<ResidualAttention>(streams);
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_kimi_k3(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(KdaMlaModel model, read_kda_mla_model(m, {.gating = Gating::kSigmoid,
                                                                   .gating_says = Says::kKey,
                                                                   .scales = true,
                                                                   .selection_bias = kSelectionBias,
                                                                   .by_layer = true}));
  ODMOE_RETURN_IF_ERROR(forget_positions(m, model.mla.mla.rope));
  if (has_gates(m, model.recurrent)) model.mla.mla.gates_per_head = model.mla.mla.value_dim;
  model.kda.a_has_leading_one = false;
  model.kda.full_rank_gate = "ssm_g";
  ODMOE_RETURN_IF_ERROR(read_gate_bound(m, model.kda));
  ModelShape& shape = model.mla.shape;
  shape.max_layer_nodes = 192;
  ODMOE_ASSIGN_OR_RETURN(shape.n_embd_exp, m.integer_or("expert_latent_length", 0, 0, 1 << 20));
  ODMOE_RETURN_IF_ERROR(read_situ(m, shape));
  ODMOE_ASSIGN_OR_RETURN(std::unique_ptr<ResidualStreams> streams, read_residual_attention(m, shape));
  return std::make_unique<KimiK3>(std::move(model), std::move(streams));
}

}  // namespace odmoe
