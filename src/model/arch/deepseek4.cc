// DeepSeek-V4: hyper-connections; attention to a window and to compressed blocks, of which an indexer chooses
// where they are short; experts by the root of a softplus with a selection bias, in the first layers by the
// token alone; SwiGLU limits; a shared expert.
#include <cmath>
#include <utility>
#include <vector>

#include "model/arch/hyper_connection_model.h"
#include "model/arch/registry.h"
#include "model/blocks/compressed_attention.h"

namespace odmoe {
namespace {

class Deepseek4 final : public Architecture {
 public:
  Deepseek4(ModelShape shape, std::vector<CompressedAttentionShape> layers,
            std::unique_ptr<ResidualStreams> streams)
      : Architecture(std::move(shape), std::move(streams)), shapes_(std::move(layers)) {
    weights_.resize(shapes_.size());
  }

  std::vector<StateTensor> state(int layer) const override {
    return compressed_attention_state(shapes_[static_cast<size_t>(layer)]);
  }

  void declare(DenseWeights& weights, int layer) override {
    const auto i = static_cast<size_t>(layer);
    weights_[i] = declare_compressed_attention(weights, shapes_[i], layer);
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    const auto i = static_cast<size_t>(layer);
    return compressed_attention(inputs, shapes_[i], weights_[i], layer, x);
  }

 private:
  std::vector<CompressedAttentionShape> shapes_;
  std::vector<CompressedAttentionWeights> weights_;
};

// RoPE of layers without compressed blocks, and of those with them.
struct Ropes {
  RopeOptions plain, compressed;
};

Result<Ropes> read_ropes(const Metadata& m, int32_t head_dim) {
  Ropes ropes;
  RopeOptions& compressed = ropes.compressed;
  ODMOE_ASSIGN_OR_RETURN(compressed, read_rope(m.account(), m.arch(), RopePairs::kAdjacent, head_dim));
  if (compressed.attn_factor != 1) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}; such models are computed with 1",
                m.file().path().string(), m.key("rope.scaling.attn_factor"), compressed.attn_factor);
  }
  compressed.first = head_dim - compressed.n_rot;
  ropes.plain = compressed;
  ropes.plain.freq_scale = 1;
  ropes.plain.ext_factor = 0;
  ropes.plain.n_ctx_orig = 0;
  // YaRN turns, but does not make longer.
  if (compressed.yarn()) compressed.attn_factor = 1 / (1 + 0.1F * std::log(1 / compressed.freq_scale));
  ODMOE_ASSIGN_OR_RETURN(compressed.freq_base, m.positive("attention.compress_rope_freq_base"));
  return ropes;
}

// What all layers have in common; of ratio 0.
Result<CompressedAttentionShape> read_attention(const Metadata& m, const ModelShape& shape) {
  constexpr int32_t kMaxDim = 1 << 16;
  CompressedAttentionShape s{.n_embd = shape.n_embd,
                             .n_head = shape.n_head,
                             .norm_eps = shape.norm_eps,
                             .rope = {},
                             .compressor = {},
                             .indexer = {},
                             .indexer_compressor = {}};
  const std::string path = m.file().path().string();
  ODMOE_ASSIGN_OR_RETURN(const int32_t key, m.integer("attention.key_length", 2, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(const int32_t value, m.integer_or("attention.value_length", key, 2, kMaxDim));
  if (key != value || shape.n_head_kv != 1) {
    return fail(ErrorKind::kUnsupported,
                "{}: {} KV heads with keys of {} and values of {}; such models have one head that is both",
                path, shape.n_head_kv, key, value);
  }
  s.head_dim = key;
  ODMOE_ASSIGN_OR_RETURN(s.q_lora_rank, m.integer("attention.q_lora_rank", 1, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(s.window, m.integer("attention.sliding_window", 1, 1 << 24));
  ODMOE_ASSIGN_OR_RETURN(s.n_group, m.integer("attention.output_group_count", 1, shape.n_head));
  ODMOE_ASSIGN_OR_RETURN(s.output_lora_rank, m.integer("attention.output_lora_rank", 1, kMaxDim));
  if (shape.n_head % s.n_group != 0) {
    return fail(ErrorKind::kBadFile, "{}: {} heads do not divide among {} groups", path, shape.n_head,
                s.n_group);
  }
  const TensorInfo* output_a = m.file().find_tensor("blk.0.attn_output_a.weight");
  s.joint_output_a = output_a != nullptr && output_a->ne[2] == 1;
  return s;
}

Result<IndexerShape> read_indexer_of_blocks(const Metadata& m, const CompressedAttentionShape& s) {
  IndexerShape indexer{.n_embd = s.n_embd, .q_lora_rank = s.q_lora_rank, .rope = {}};
  ODMOE_ASSIGN_OR_RETURN(indexer.n_head, m.integer("attention.indexer.head_count", 1, 4096));
  ODMOE_ASSIGN_OR_RETURN(indexer.head_dim, m.integer("attention.indexer.key_length", s.rope.n_rot, 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(indexer.top_k, m.integer("attention.indexer.top_k", 1, 1 << 24));
  indexer.rope = s.rope;
  indexer.rope.first = static_cast<int32_t>(indexer.head_dim) - indexer.rope.n_rot;
  return indexer;
}

Result<std::vector<CompressedAttentionShape>> read_layers(const Metadata& m, const ModelShape& shape) {
  constexpr int32_t kShort = 4, kLong = 128;
  ODMOE_ASSIGN_OR_RETURN(CompressedAttentionShape plain, read_attention(m, shape));
  ODMOE_ASSIGN_OR_RETURN(const Ropes ropes, read_ropes(m, static_cast<int32_t>(plain.head_dim)));
  plain.rope = ropes.compressed;
  ODMOE_ASSIGN_OR_RETURN(const IndexerShape indexer, read_indexer_of_blocks(m, plain));
  plain.rope = ropes.plain;
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> ratios,
                         m.integers("attention.compress_ratios", shape.n_layer, 0, 1 << 24));
  std::vector<CompressedAttentionShape> layers;
  for (const int32_t ratio : ratios) {
    if (ratio != 0 && ratio != kShort && ratio != kLong) {
      return fail(ErrorKind::kUnsupported, "{}: {} has {}; 0, {} and {} are supported",
                  m.file().path().string(), m.key("attention.compress_ratios"), ratio, kShort, kLong);
    }
    CompressedAttentionShape& s = layers.emplace_back(plain);
    if (ratio == 0) continue;
    s.rope = ropes.compressed;
    s.compressor = {.n_embd = s.n_embd,
                    .head_dim = s.head_dim,
                    .ratio = ratio,
                    .overlapping = ratio == kShort,
                    .norm_eps = s.norm_eps,
                    .rope = s.rope};
    if (ratio != kShort) continue;
    s.indexer = indexer;
    s.indexer_compressor = s.compressor;
    s.indexer_compressor.head_dim = indexer.head_dim;
    s.indexer_compressor.rope = indexer.rope;
  }
  return layers;
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_deepseek4(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(ModelShape shape, read_shape(m, {.gating = Gating::kSqrtSoftplus,
                                                          .gating_says = Says::kKey,
                                                          .scales = true,
                                                          .selection_bias = kSelectionBias}));
  shape.max_layer_nodes = 256;
  ODMOE_ASSIGN_OR_RETURN(shape.shared.n_ff, read_shared_width(m, shape));
  ODMOE_ASSIGN_OR_RETURN(shape.n_layer_by_token, m.integer_or("hash_layer_count", 0, 0, shape.n_layer));
  ODMOE_ASSIGN_OR_RETURN(shape.limits, read_swiglu_limits(m, shape, SwigluLimit::kGate));
  if (!m.has("swiglu_clamp_shexp")) shape.limits.others = shape.limits.experts;
  if (shape.router.gating != Gating::kSqrtSoftplus) {
    return fail(ErrorKind::kUnsupported, "{}: {} is not 4 (square root of softplus), which {} models have",
                m.file().path().string(), m.key("expert_gating_func"), m.arch());
  }
  ODMOE_ASSIGN_OR_RETURN(std::vector<CompressedAttentionShape> layers, read_layers(m, shape));
  ODMOE_ASSIGN_OR_RETURN(std::unique_ptr<ResidualStreams> streams,
                         read_hyper_connections(m, shape, HyperConnectionShape::End::kWeighted));
  return std::make_unique<Deepseek4>(std::move(shape), std::move(layers), std::move(streams));
}

}  // namespace odmoe
