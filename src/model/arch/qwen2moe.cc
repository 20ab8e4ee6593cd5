// Qwen2-57B-A14B, Qwen1.5-MoE-A2.7B (arXiv:2407.10671): biases on queries, keys and values, one shared expert
// behind a sigmoid gate, weights of the chosen experts not normalised.
#include "model/arch/qwen.h"
#include "model/arch/registry.h"
#include "model/blocks/ffn.h"

namespace odmoe {
namespace {

class Qwen2Moe final : public QwenAttention {
 public:
  Qwen2Moe(ModelShape shape, const GqaShape& gqa, int64_t n_ff_shared)
      : QwenAttention(std::move(shape), gqa), n_ff_shared_(n_ff_shared) {
    shared_.resize(static_cast<size_t>(this->shape().n_layer));
  }

  void declare(DenseWeights& weights, int layer) override {
    declare_attention(weights, layer, /*with_norms=*/false);
    SharedExpert& shared = shared_[static_cast<size_t>(layer)];
    shared.gate = weights.require(odmoe::format("blk.{}.ffn_gate_inp_shexp.weight", layer), {shape().n_embd});
    shared.ffn = declare_ffn(weights, layer, "_shexp", shape().n_embd, n_ff_shared_);
  }

  bool has_shared_expert() const override { return true; }
  ggml_tensor* shared_expert(ggml_context* ctx, int layer, ggml_tensor* x) const override {
    const SharedExpert& shared = shared_[static_cast<size_t>(layer)];
    ggml_tensor* gate = ggml_sigmoid(ctx, ggml_mul_mat(ctx, shared.gate, x));  // [1, n_token]
    return ggml_mul(ctx, ffn(ctx, shared.ffn, x), gate);
  }

 private:
  struct SharedExpert {
    ggml_tensor* gate = nullptr;  // [n_embd]
    FfnWeights ffn;
  };
  int64_t n_ff_shared_;
  std::vector<SharedExpert> shared_;
};

}  // namespace

Result<std::unique_ptr<Architecture>> make_qwen2moe(Account& account) {
  const Metadata metadata(account, "qwen2moe");
  ODMOE_ASSIGN_OR_RETURN(ModelShape shape, read_shape(metadata));
  shape.router.normalise = false;  // the family never does
  ODMOE_ASSIGN_OR_RETURN(const GqaShape gqa, read_gqa_shape(metadata, shape));
  // Older files lack the key; the tensor knows.
  const TensorInfo* up =
      account.file().find_tensor(odmoe::format("blk.{}.ffn_up_shexp.weight", shape.n_layer_dense_lead));
  const int32_t in_file = up != nullptr && up->ne[1] <= 1 << 20 ? static_cast<int32_t>(up->ne[1]) : 0;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff_shared,
                         metadata.integer_or("expert_shared_feed_forward_length", in_file, 1, 1 << 20));
  return std::make_unique<Qwen2Moe>(std::move(shape), gqa, n_ff_shared);
}

}  // namespace odmoe
