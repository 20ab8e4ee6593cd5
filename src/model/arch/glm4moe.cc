// GLM-4.5, GLM-4.6 and GLM-4.5-Air (arXiv:2508.06471): RoPE on half of a head, biases on queries, keys and
// values, norms of queries and keys in the large ones alone, leading dense layers, sigmoid routing with a
// selection bias, a shared expert; blocks for speculation behind the layers.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_glm4moe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating = Gating::kSigmoid, .scales = true, .selection_bias = kSelectionBias},
                     RopePairs::kHalves));
  model.shape.layer.ffn_norm = "post_attention_norm";
  if (m.file().find_tensor("blk.0.attn_q_norm.weight") != nullptr) model.gqa.qk_norm = QkNorm::kPerHead;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff, read_shared_width(m, model.shape));
  model.shape.shared.n_ff = n_ff;
  return make_gqa(std::move(model));
}

}  // namespace odmoe
