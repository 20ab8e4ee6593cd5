// MiniMax-M3: norms of queries and keys of each head, RoPE on half of a head, gpt-oss's SwiGLU, sigmoid
// routing with a selection bias, a shared expert; layers with experts attend to the blocks of keys that an
// indexer chooses, of which llama.cpp 0.7.0 knows with flash attention alone.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"
#include "model/blocks/block_choice.h"
#include "model/row_group.h"

namespace odmoe {
namespace {

class MinimaxM3 final : public GqaArchitecture {
 public:
  MinimaxM3(GqaModel model, const BlockChoiceShape& choice)
      : GqaArchitecture(std::move(model)), choice_(choice) {
    choices_.resize(static_cast<size_t>(shape().n_layer));
  }

  std::vector<StateTensor> state(int layer) const override {
    std::vector<StateTensor> tensors = GqaArchitecture::state(layer);
    if (shape().has_experts(layer)) tensors.push_back(block_choice_state(choice_));
    return tensors;
  }

  void declare(DenseWeights& weights, int layer) override {
    GqaArchitecture::declare(weights, layer);
    if (!shape().has_experts(layer)) return;
    choices_[static_cast<size_t>(layer)] = declare_block_choice(weights, choice_, layer);
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    if (!shape().has_experts(layer)) return GqaArchitecture::attention(inputs, layer, x);
    const std::vector<ggml_tensor*> masks =
        masks_by_blocks(inputs, choice_, choices_[static_cast<size_t>(layer)], layer, 2, x);
    return attention_by(inputs, layer, x, masks);
  }

 private:
  BlockChoiceShape choice_;
  std::vector<BlockChoiceWeights> choices_;
};

Result<BlockChoiceShape> read_choice(const Metadata& m, const GqaModel& model) {
  BlockChoiceShape s{.n_embd = model.shape.n_embd, .norm_eps = model.shape.norm_eps, .rope = model.gqa.rope};
  const std::string path = m.file().path().string();
  ODMOE_ASSIGN_OR_RETURN(s.n_head, m.integer("attention.indexer.head_count", 1, 4096));
  if (s.n_head != model.gqa.n_head_kv) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}, and there are {} KV heads; they have to be as many",
                path, m.key("attention.indexer.head_count"), s.n_head, model.gqa.n_head_kv);
  }
  ODMOE_ASSIGN_OR_RETURN(s.head_dim,
                         m.integer("attention.indexer.key_length", model.gqa.rope.n_rot, 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(s.top_k, m.integer("attention.indexer.top_k", 1, 1 << 24));
  ODMOE_ASSIGN_OR_RETURN(s.block, m.integer("attention.indexer.block_size", 1, 1 << 24));
  if (RowGroup::kSeenPadding % s.block != 0) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}; what divides {} is supported", path,
                m.key("attention.indexer.block_size"), s.block, RowGroup::kSeenPadding);
  }
  ODMOE_ASSIGN_OR_RETURN(s.last,
                         m.integer_or("attention.indexer.local_blocks", 0, 0, static_cast<int32_t>(s.top_k)));
  return s;
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_minimax_m3(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(GqaModel model, read_gqa_model(m,
                                                        {.gating = Gating::kSigmoid,
                                                         .gating_says = Says::kKey,
                                                         .scales = true,
                                                         .selection_bias = kSelectionBias},
                                                        RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kPerHead;
  model.shape.activation = Activation::kSwigluOai;
  ODMOE_ASSIGN_OR_RETURN(model.shape.shared.n_ff, read_shared_width(m, model.shape));
  ODMOE_ASSIGN_OR_RETURN(const BlockChoiceShape choice, read_choice(m, model));
  // Attention of each KV head by itself, and its mask.
  model.shape.max_layer_nodes = static_cast<int32_t>(128 + 32 * model.gqa.n_head_kv);
  return std::make_unique<MinimaxM3>(std::move(model), choice);
}

}  // namespace odmoe
