// DeepSeek-V2, V2-Lite, V3, R1 and Kimi-K2, K2.5 (arXiv:2405.04434, 2412.19437): multi-head latent attention,
// leading dense layers, shared experts, softmax or sigmoid routing with a selection bias and expert groups.
#include "model/arch/architecture.h"
#include "model/arch/metadata.h"
#include "model/arch/registry.h"
#include "model/blocks/ffn.h"
#include "model/blocks/mla.h"

namespace odmoe {
namespace {

class Deepseek2 final : public Architecture {
 public:
  Deepseek2(ModelShape shape, const MlaShape& mla, int64_t n_ff_shared)
      : Architecture(std::move(shape)), mla_(mla), n_ff_shared_(n_ff_shared) {
    layers_.resize(static_cast<size_t>(this->shape().n_layer));
  }

  KvLayout kv_layout() const override {
    return {.n_layer = shape().n_layer, .key = mla_.cache_row(), .value = 0};
  }

  void declare(DenseWeights& weights, int layer) override {
    Layer& w = layers_[static_cast<size_t>(layer)];
    w.mla = declare_mla(weights, mla_, layer);
    if (has_shared_expert() && shape().has_experts(layer)) {
      w.shared = declare_ffn(weights, layer, "_shexp", shape().n_embd, n_ff_shared_);
    }
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    return mla(inputs, mla_, layers_[static_cast<size_t>(layer)].mla, layer, x);
  }

  bool has_shared_expert() const override { return n_ff_shared_ > 0; }
  ggml_tensor* shared_expert(ggml_context* ctx, int layer, ggml_tensor* x) const override {
    return has_shared_expert() ? ffn(ctx, layers_[static_cast<size_t>(layer)].shared, x) : nullptr;
  }

 private:
  struct Layer {
    MlaWeights mla;
    FfnWeights shared;
  };
  MlaShape mla_;
  int64_t n_ff_shared_;
  std::vector<Layer> layers_;
};

}  // namespace

Result<std::unique_ptr<Architecture>> make_deepseek2(const Checkpoint& file) {
  constexpr int32_t kMaxDim = 1 << 16;
  const Metadata m(file, "deepseek2");
  ODMOE_ASSIGN_OR_RETURN(ModelShape shape, read_shape(m));
  ODMOE_ASSIGN_OR_RETURN(shape.router.normalise, m.boolean_or("expert_weights_norm", false));
  ODMOE_ASSIGN_OR_RETURN(shape.router.scale, m.number_or("expert_weights_scale", 1));

  MlaShape mla{.n_embd = shape.n_embd, .n_head = shape.n_head, .norm_eps = shape.norm_eps, .rope = {}};
  ODMOE_ASSIGN_OR_RETURN(mla.q_lora_rank, m.integer_or("attention.q_lora_rank", 0, 0, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(mla.kv_lora_rank, m.integer("attention.kv_lora_rank", 1, kMaxDim));
  // Files made for absorbed attention give the compressed lengths as key_length and the heads' own as *_mla.
  const bool has_mla_keys = m.has("attention.key_length_mla");
  ODMOE_ASSIGN_OR_RETURN(
      const int32_t head_dim,
      m.integer(has_mla_keys ? "attention.key_length_mla" : "attention.key_length", 2, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(
      mla.value_dim,
      m.integer(has_mla_keys ? "attention.value_length_mla" : "attention.value_length", 1, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(mla.rope_dim, m.integer("rope.dimension_count", 2, head_dim - 1));
  mla.nope_dim = head_dim - mla.rope_dim;
  ODMOE_ASSIGN_OR_RETURN(
      mla.rope, read_rope(file, "deepseek2", RopePairs::kAdjacent, static_cast<int32_t>(mla.rope_dim)));
  mla.kq_scale = mla_softmax_scale(head_dim, mla.rope);

  ODMOE_ASSIGN_OR_RETURN(const int32_t n_shared, m.integer_or("expert_shared_count", 0, 0, 1024));
  const int64_t n_ff_shared = static_cast<int64_t>(n_shared) * shape.n_ff_exp;
  return std::make_unique<Deepseek2>(std::move(shape), mla, n_ff_shared);
}

}  // namespace odmoe
