#include "model/arch/sparse_mla_model.h"

#include <algorithm>
#include <utility>

#include "backend/tensor_memory.h"
#include "model/blocks/chosen_rows.h"

namespace odmoe {
namespace {

class SparseMla final : public Architecture {
 public:
  explicit SparseMla(SparseMlaModel model)
      : Architecture(model.mla.shape, std::move(model.streams)), model_(std::move(model)) {
    layers_.resize(static_cast<size_t>(shape().n_layer));
  }

  std::vector<StateTensor> state(int layer) const override {
    std::vector<StateTensor> tensors = {mla_state(mla_of(layer))};
    if (choice(layer) == RowChoice::kIndexer) tensors.push_back(indexer_state(model_.indexer));
    return tensors;
  }

  void declare(DenseWeights& weights, int layer) override {
    Layer& w = layers_[static_cast<size_t>(layer)];
    w.mla = declare_mla(weights, mla_of(layer), layer);
    if (choice(layer) == RowChoice::kIndexer) w.indexer = declare_indexer(weights, model_.indexer, layer);
  }

  int64_t chosen_rows() const override {
    return std::ranges::contains(model_.choices, RowChoice::kEarlier) ? model_.indexer.top_k : 0;
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    const Layer& w = layers_[static_cast<size_t>(layer)];
    const MlaShape& shape = mla_of(layer);
    if (choice(layer) == RowChoice::kAll) return mla(inputs, shape, w.mla, layer, x);
    const RowInputs& rows = inputs.rows(layer, 0);
    ggml_tensor* query = mla_query(inputs.context, shape, w.mla, x);
    ggml_tensor* chosen = nullptr;
    if (choice(layer) == RowChoice::kIndexer) {
      chosen = choose_rows(inputs, model_.indexer, w.indexer, layer, 1, x, query);
      if (chosen != nullptr && inputs.chosen_rows != nullptr) place_within(inputs.chosen_rows, chosen);
    } else if (rows.n_seen > model_.indexer.top_k && inputs.chosen_rows != nullptr) {
      chosen = ggml_view_2d(inputs.context, inputs.chosen_rows, model_.indexer.top_k, inputs.n_token,
                            inputs.chosen_rows->nb[1], 0);
    }
    return mla(inputs, shape, w.mla, layer, x,
               {.query = query, .mask = chosen_mask(inputs.context, rows.mask, chosen)});
  }

 private:
  struct Layer {
    MlaWeights mla;
    IndexerWeights indexer;
  };
  RowChoice choice(int layer) const { return model_.choices[static_cast<size_t>(layer)]; }
  const MlaShape& mla_of(int layer) const {
    return choice(layer) == RowChoice::kAll ? model_.windowed : model_.mla.mla;
  }

  SparseMlaModel model_;
  std::vector<Layer> layers_;
};

}  // namespace

Result<IndexerShape> read_indexer(const Metadata& m, const MlaShape& mla) {
  if (mla.q_lora_rank == 0) {
    return fail(ErrorKind::kBadFile, "{}: there is no {}, which the indexer's queries are made from",
                m.file().path().string(), m.key("attention.q_lora_rank"));
  }
  IndexerShape indexer{.n_embd = mla.n_embd, .q_lora_rank = mla.q_lora_rank, .rope = mla.rope};
  ODMOE_ASSIGN_OR_RETURN(indexer.n_head, m.integer("attention.indexer.head_count", 1, 4096));
  ODMOE_ASSIGN_OR_RETURN(indexer.head_dim,
                         m.integer("attention.indexer.key_length", std::max(mla.rope.n_rot, 1), 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(indexer.top_k, m.integer("attention.indexer.top_k", 1, 1 << 24));
  ODMOE_ASSIGN_OR_RETURN(indexer.norm_eps, m.number_or("attention.layer_norm_epsilon", indexer.norm_eps));
  return indexer;
}

Result<std::vector<RowChoice>> read_indexer_types(const Metadata& m, const ModelShape& shape) {
  constexpr std::string_view kKey = "attention.indexer.types";
  std::vector<bool> has_indexer(static_cast<size_t>(shape.n_layer), true);
  if (m.has(kKey)) {
    ODMOE_ASSIGN_OR_RETURN(has_indexer, m.flags(kKey, shape.n_layer));
    if (!has_indexer.front()) {
      return fail(ErrorKind::kBadFile, "{}: {} begins with 0, but there is no layer before the first",
                  m.file().path().string(), m.key(kKey));
    }
  }
  std::vector<RowChoice> choices;
  choices.reserve(has_indexer.size());
  for (const bool has : has_indexer) choices.push_back(has ? RowChoice::kIndexer : RowChoice::kEarlier);
  return choices;
}

Result<SparseMlaModel> read_sparse_mla_model(const Metadata& m, const FamilyRules& rules,
                                             RopePairs indexer_pairs) {
  SparseMlaModel model;
  ODMOE_ASSIGN_OR_RETURN(model.mla, read_mla_model(m, rules));
  ODMOE_ASSIGN_OR_RETURN(model.indexer, read_indexer(m, model.mla.mla));
  model.indexer.rope.pairs = indexer_pairs;
  model.mla.shape.max_layer_nodes = 128;
  model.choices.assign(static_cast<size_t>(model.mla.shape.n_layer), RowChoice::kIndexer);
  return model;
}

std::unique_ptr<Architecture> make_sparse_mla(SparseMlaModel model) {
  return std::make_unique<SparseMla>(std::move(model));
}

}  // namespace odmoe
