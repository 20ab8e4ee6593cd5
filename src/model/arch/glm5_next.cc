// GLM-5.3-Flash: hyper-connections whose streams are averaged at the end, Kimi Delta Attention with a bounded
// gate in some layers, in the others multi-head latent attention without positions to the pools of tokens
// that an indexer chooses; leading dense layers, sigmoid routing with a selection bias, shared experts.
#include <algorithm>
#include <iterator>
#include <utility>

#include "model/arch/hyper_connection_model.h"
#include "model/arch/kda_mla_model.h"
#include "model/arch/registry.h"
#include "model/arch/sparse_mla_model.h"
#include "model/blocks/pooled_indexer.h"

namespace odmoe {
namespace {

class Glm5Next final : public KdaMlaArchitecture {
 public:
  Glm5Next(KdaMlaModel model, const PooledIndexerShape& indexer, std::unique_ptr<ResidualStreams> streams)
      : KdaMlaArchitecture(std::move(model), std::move(streams)), indexer_(indexer) {
    indexers_.resize(static_cast<size_t>(shape().n_layer));
  }

  std::vector<StateTensor> state(int layer) const override {
    std::vector<StateTensor> tensors = KdaMlaArchitecture::state(layer);
    if (is_recurrent(layer)) return tensors;
    std::ranges::copy(pooled_indexer_state(indexer_), std::back_inserter(tensors));
    return tensors;
  }

  void declare(DenseWeights& weights, int layer) override {
    KdaMlaArchitecture::declare(weights, layer);
    if (is_recurrent(layer)) return;
    indexers_[static_cast<size_t>(layer)] = declare_pooled_indexer(weights, indexer_, layer);
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    if (is_recurrent(layer)) return KdaMlaArchitecture::attention(inputs, layer, x);
    ggml_tensor* query = mla_query(inputs.context, mla_shape(), mla_weights(layer), x);
    ggml_tensor* mask = mask_by_pools(inputs, indexer_, indexers_[static_cast<size_t>(layer)], layer, 1, x,
                                      query, inputs.rows(layer, 0).mask);
    return mla(inputs, mla_shape(), mla_weights(layer), layer, x, {.query = query, .mask = mask});
  }

 private:
  PooledIndexerShape indexer_;
  std::vector<PooledIndexerWeights> indexers_;
};

Result<PooledIndexerShape> read_pooled_indexer(const Metadata& m, const KdaMlaModel& model) {
  PooledIndexerShape shape;
  ODMOE_ASSIGN_OR_RETURN(shape.indexer, read_indexer(m, model.mla.mla));
  ODMOE_ASSIGN_OR_RETURN(shape.pool, m.integer("attention.indexer.kpool", 2, 4096));
  const std::string& path = m.file().path().string();
  if (shape.indexer.top_k % shape.pool != 0) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}, no multiple of {}, which is {}", path,
                m.key("attention.indexer.top_k"), shape.indexer.top_k, m.key("attention.indexer.kpool"),
                shape.pool);
  }
  shape.indexer.top_k /= shape.pool;
  ODMOE_ASSIGN_OR_RETURN(const bool tail, m.boolean_or("attention.indexer.kpool_select_tail", true));
  if (!tail) {
    return fail(ErrorKind::kUnsupported, "{}: {} is false, which is not supported", path,
                m.key("attention.indexer.kpool_select_tail"));
  }
  constexpr std::string_view kTypes = "attention.indexer.types";
  if (!m.has(kTypes)) return shape;
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> types, m.integers(kTypes, model.mla.shape.n_layer, 0, 1));
  for (size_t layer = 0; layer < types.size(); ++layer) {
    if (types[layer] != 0 || model.recurrent[layer]) continue;
    return fail(ErrorKind::kUnsupported, "{}: {} says that layer {} has no indexer, which is not supported",
                path, m.key(kTypes), layer);
  }
  return shape;
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_glm5_next(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      KdaMlaModel model,
      read_kda_mla_model(
          m, {.gating = Gating::kSigmoid, .scales = true, .selection_bias = kSelectionBias, .by_layer = true},
          RopePairs::kAdjacent, MlaPositions::kMayBeNone));
  if (model.mla.mla.rope_dim != 0) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}; such models know no positions",
                m.file().path().string(), m.key("rope.dimension_count"), model.mla.mla.rope_dim);
  }
  model.mla.shape.max_layer_nodes = 192;
  model.kda.a_has_leading_one = false;
  ODMOE_RETURN_IF_ERROR(read_gate_bound(m, model.kda));
  ODMOE_ASSIGN_OR_RETURN(const PooledIndexerShape indexer, read_pooled_indexer(m, model));
  ODMOE_ASSIGN_OR_RETURN(std::unique_ptr<ResidualStreams> streams,
                         read_hyper_connections(m, model.mla.shape, HyperConnectionShape::End::kMean));
  return std::make_unique<Glm5Next>(std::move(model), indexer, std::move(streams));
}

}  // namespace odmoe
