// Qwen3.8-Flash-Next: Qwen3.5 MoE on hyper-connections of low rank, which are its norms, with attention to
// the pools of tokens that an indexer chooses, and sigmoid gates of the delta nets.
#include <algorithm>
#include <array>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "model/arch/delta_net_model.h"
#include "model/arch/registry.h"
#include "model/blocks/low_rank_connections.h"
#include "model/blocks/mean_pool_indexer.h"

namespace odmoe {
namespace {

class Qwen4Exp final : public DeltaNetArchitecture {
 public:
  Qwen4Exp(DeltaNetModel model, const MeanPoolIndexerShape& indexer, std::unique_ptr<ResidualStreams> streams)
      : DeltaNetArchitecture(std::move(model.gqa), std::move(model.recurrent), model.delta_net,
                             std::move(streams)),
        indexer_(indexer) {
    indexers_.resize(static_cast<size_t>(shape().n_layer));
  }

  std::vector<StateTensor> state(int layer) const override {
    std::vector<StateTensor> tensors = DeltaNetArchitecture::state(layer);
    if (is_recurrent(layer)) return tensors;
    std::ranges::copy(mean_pool_indexer_state(indexer_), std::back_inserter(tensors));
    return tensors;
  }

  void declare(DenseWeights& weights, int layer) override {
    DeltaNetArchitecture::declare(weights, layer);
    if (is_recurrent(layer)) return;
    indexers_[static_cast<size_t>(layer)] = declare_mean_pool_indexer(weights, indexer_, layer);
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    if (is_recurrent(layer)) return DeltaNetArchitecture::attention(inputs, layer, x);
    const std::array<ggml_tensor*, 1> mask = {
        mask_by_mean_pools(inputs, indexer_, indexers_[static_cast<size_t>(layer)], layer, /*number=*/2, x,
                           inputs.rows(layer, 0).mask)};
    return attention_by(inputs, layer, x, mask);
  }

 private:
  MeanPoolIndexerShape indexer_;
  std::vector<MeanPoolIndexerWeights> indexers_;
};

Result<MeanPoolIndexerShape> read_pools(const Metadata& m, const DeltaNetModel& model) {
  MeanPoolIndexerShape s{
      .n_embd = model.gqa.shape.n_embd, .norm_eps = model.gqa.shape.norm_eps, .rope = model.gqa.gqa.rope};
  ODMOE_ASSIGN_OR_RETURN(s.n_head, m.integer("attention.indexer.head_count", 1, kMaxHeads));
  ODMOE_ASSIGN_OR_RETURN(s.head_dim,
                         m.integer("attention.indexer.key_length", std::max(s.rope.n_rot, 1), 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(s.top_k, m.integer("attention.indexer.top_k", 1, 1 << 24));
  constexpr std::string_view kRatios = "attention.compress_ratios";
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> ratios,
                         m.integers(kRatios, model.gqa.shape.n_layer, 0, 4096));
  for (size_t layer = 0; layer < ratios.size(); ++layer) {
    if (model.recurrent[layer]) continue;
    if (s.pool == 0) s.pool = ratios[layer];
    if (ratios[layer] == s.pool && s.pool > 1) continue;
    return fail(ErrorKind::kUnsupported,
                "{}: {} gives layer {} pools of {} tokens; all have to be of one length above 1",
                m.file().path().string(), m.key(kRatios), layer, ratios[layer]);
  }
  if (s.pool == 0 || s.top_k % s.pool != 0) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}, no multiple of a pool's {} tokens ({})",
                m.file().path().string(), m.key("attention.indexer.top_k"), s.top_k, s.pool, m.key(kRatios));
  }
  s.top_k /= s.pool;
  return s;
}

Result<std::unique_ptr<ResidualStreams>> read_streams(const Metadata& m, const ModelShape& shape) {
  LowRankConnectionShape s{.n_embd = shape.n_embd, .n_layer = shape.n_layer, .norm_eps = shape.norm_eps};
  constexpr std::string_view kCount = "hyper_connection.count";
  constexpr int32_t kMixedStreams = 4;  // of ggml's operations
  ODMOE_ASSIGN_OR_RETURN(s.n_stream, m.integer(kCount, 2, 64));
  if (s.n_stream != kMixedStreams) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}; models with {} are supported",
                m.file().path().string(), m.key(kCount), s.n_stream, kMixedStreams);
  }
  ODMOE_ASSIGN_OR_RETURN(s.rank, m.integer("hyper_connection.low_rank", 1, 1 << 16));
  return std::make_unique<LowRankConnections>(s);
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_qwen4exp(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(DeltaNetModel model, read_delta_net_model(m));
  model.delta_net.gate = DeltaNetGate::kSigmoid;
  ModelShape& shape = model.gqa.shape;
  shape.max_layer_nodes = 192;
  shape.layer.attention_norm = shape.layer.ffn_norm = shape.layer.output_norm = {};
  ODMOE_ASSIGN_OR_RETURN(const MeanPoolIndexerShape indexer, read_pools(m, model));
  ODMOE_ASSIGN_OR_RETURN(std::unique_ptr<ResidualStreams> streams, read_streams(m, shape));
  return std::make_unique<Qwen4Exp>(std::move(model), indexer, std::move(streams));
}

}  // namespace odmoe
