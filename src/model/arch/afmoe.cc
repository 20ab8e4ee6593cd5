// Arcee Trinity (Nano, Mini, Large): norms before and after attention and MLP, a gate on what attention
// gives, norms of queries and keys, a window and RoPE in three of four layers, leading dense layers, sigmoid
// routing with a selection bias, a shared expert; the embedding times sqrt(n_embd).
#include <cmath>

#include "model/arch/registry.h"
#include "model/arch/windowed_model.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_afmoe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating = Gating::kSigmoid, .scales = true, .selection_bias = kSelectionBias},
                     RopePairs::kHalves));
  LayerOptions& layer = model.shape.layer;
  layer.embedding_scale = std::sqrt(static_cast<float>(model.shape.n_embd));
  layer.attention_post_norm = "post_attention_norm";
  layer.ffn_post_norm = "post_ffw_norm";
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff, read_shared_width(m, model.shape));
  model.shape.shared.n_ff = n_ff;
  model.gqa.qk_norm = QkNorm::kPerHead;
  model.gqa.gate = AttentionGate::kSigmoid;
  model.gqa.gates_per_head = model.gqa.value_dim;
  ODMOE_RETURN_IF_ERROR(read_windows(m, {.period = 4, .full_rope = false}, model));
  return make_gqa(std::move(model));
}

}  // namespace odmoe
