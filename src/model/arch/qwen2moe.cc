// Qwen2-57B-A14B, Qwen1.5-MoE-A2.7B (arXiv:2407.10671): biases on queries, keys and values, one shared expert
// behind a sigmoid gate, weights of the chosen experts not normalised.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_qwen2moe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = false, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  // Older files lack the key; the tensor knows.
  const TensorInfo* up =
      m.file().find_tensor(odmoe::format("blk.{}.ffn_up_shexp.weight", model.shape.n_layer_dense_lead));
  const int32_t in_file = up != nullptr && up->ne[1] <= 1 << 20 ? static_cast<int32_t>(up->ne[1]) : 0;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff,
                         m.integer_or("expert_shared_feed_forward_length", in_file, 1, 1 << 20));
  model.shape.shared.n_ff = n_ff;
  model.shape.shared.gated = true;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
