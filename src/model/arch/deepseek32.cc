// DeepSeek-V3.2 (arXiv:2512.02556): deepseek2's graph, of which each token attends to the rows that an
// indexer in each layer chooses.  GLM-5 and 5.1 are the same without expert groups; in GLM-5.2 most layers
// take the choice of an earlier one.
#include "model/arch/registry.h"
#include "model/arch/sparse_mla_model.h"

namespace odmoe {
namespace {

// attention.indexer.types: 1, or 0 where the choice is an earlier layer's.
Result<std::vector<bool>> read_indexer_layers(const Metadata& m, const ModelShape& shape) {
  constexpr std::string_view kKey = "attention.indexer.types";
  std::vector<bool> has_indexer;
  if (m.has(kKey)) {
    ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> types, m.integers(kKey, shape.n_layer, 0, 1));
    for (const int32_t type : types) has_indexer.push_back(type != 0);
    if (!has_indexer.front()) {
      return fail(ErrorKind::kBadFile, "{}: {} begins with 0, but there is no layer before the first",
                  m.file().path().string(), m.key(kKey));
    }
    return has_indexer;
  }
  // Files of GLM-5.2 were made before the converter said it; they are known by their context, as in
  // llama.cpp.
  constexpr int32_t kContext = 1 << 20;
  for (int32_t layer = 0; layer < shape.n_layer; ++layer) {
    has_indexer.push_back(shape.n_context_train < kContext || layer < 2 || layer % 4 == 2);
  }
  return has_indexer;
}

}  // namespace

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
  ODMOE_ASSIGN_OR_RETURN(model.has_indexer, read_indexer_layers(m, model.mla.shape));
  return make_sparse_mla(std::move(model));
}

}  // namespace odmoe
