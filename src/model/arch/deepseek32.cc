// DeepSeek-V3.2 (arXiv:2512.02556): deepseek2's graph, of which each token attends to the rows that an
// indexer in each layer chooses.  GLM-5 and 5.1 are the same without expert groups; in GLM-5.2 most layers
// take the choice of an earlier one.
#include "model/arch/registry.h"
#include "model/arch/sparse_mla_model.h"

namespace odmoe {
Result<std::unique_ptr<Architecture>> make_deepseek32(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      SparseMlaModel model,
      read_sparse_mla_model(m, {.scales = true, .selection_bias = kSelectionBias}, RopePairs::kHalves));
  return make_sparse_mla(std::move(model));
}

Result<std::unique_ptr<Architecture>> make_glm_dsa(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      SparseMlaModel model,
      read_sparse_mla_model(m, {.gating = Gating::kSigmoid, .scales = true, .selection_bias = kSelectionBias},
                            RopePairs::kAdjacent));
  const ModelShape& shape = model.mla.shape;
  ODMOE_ASSIGN_OR_RETURN(model.choices, read_indexer_types(m, shape));
  // Files of GLM-5.2 were made before the converter said it; they are known by their context, as in
  // llama.cpp.
  constexpr int32_t kContext = 1 << 20;
  for (int32_t layer = 2; layer < shape.n_layer; ++layer) {
    if (m.has("attention.indexer.types") || shape.n_context_train < kContext || layer % 4 == 2) continue;
    model.choices[static_cast<size_t>(layer)] = RowChoice::kEarlier;
  }
  return make_sparse_mla(std::move(model));
}

}  // namespace odmoe
