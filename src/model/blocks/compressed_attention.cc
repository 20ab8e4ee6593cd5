#include "model/blocks/compressed_attention.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>

#include "model/blocks/attention.h"
#include "model/blocks/chosen_rows.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// Of the layer's tensors.
constexpr size_t kWindow = 0, kBlocks = 1, kIndexer = 4;

}  // namespace

CompressedAttentionWeights declare_compressed_attention(DenseWeights& weights,
                                                        const CompressedAttentionShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.attn_", layer);
  CompressedAttentionWeights w{
      .q_a = weights.require_matrix(prefix + "q_a.weight", s.n_embd, s.q_lora_rank),
      .q_a_norm = weights.require(prefix + "q_a_norm.weight", {s.q_lora_rank}),
      .q_b = weights.require_matrix(prefix + "q_b.weight", s.q_lora_rank, s.head_dim * s.n_head),
      .kv = weights.require_matrix(prefix + "kv.weight", s.n_embd, s.head_dim),
      .kv_norm = weights.require(prefix + "kv_a_norm.weight", {s.head_dim}),
      .sinks = weights.require_f32(prefix + "sinks.weight", {s.n_head}),
      .output_a =
          s.joint_output_a
              ? weights.require(prefix + "output_a.weight", {s.group_dim(), s.output_lora_rank * s.n_group})
              : weights.require(prefix + "output_a.weight", {s.group_dim(), s.output_lora_rank, s.n_group}),
      .output_b =
          weights.require_matrix(prefix + "output_b.weight", s.output_lora_rank * s.n_group, s.n_embd),
      .compressor = {},
      .indexer_compressor = {},
      .indexer = {}};
  if (s.has_blocks()) w.compressor = declare_compressor(weights, s.compressor, layer, "attn");
  if (s.has_indexer()) {
    w.indexer_compressor = declare_compressor(weights, s.indexer_compressor, layer, "indexer");
    w.indexer = declare_indexer_queries(weights, s.indexer, layer);
  }
  return w;
}

std::vector<StateTensor> compressed_attention_state(const CompressedAttentionShape& s) {
  std::vector<StateTensor> tensors = {StateTensor::rows(s.head_dim, {.window = s.window})};
  const auto append = [&](const CompressorShape& compressor) {
    std::ranges::copy(compressor_state(compressor), std::back_inserter(tensors));
  };
  if (s.has_blocks()) append(s.compressor);
  if (s.has_indexer()) append(s.indexer_compressor);
  return tensors;
}

namespace {

ggml_tensor* keys(const LayerInputs& inputs, const CompressedAttentionShape& s, int layer, size_t number) {
  return seen_heads(inputs, layer, number, s.head_dim, 1);
}

// out: [head_dim, n_head, n_token].
ggml_tensor* output(ggml_context* ctx, const CompressedAttentionShape& s, const CompressedAttentionWeights& w,
                    ggml_tensor* out) {
  const int64_t n_token = out->ne[2];
  ggml_tensor* groups = ggml_reshape_3d(ctx, out, s.group_dim(), s.n_group, n_token);
  ggml_tensor* matrices = ggml_reshape_3d(ctx, w.output_a, s.group_dim(), s.output_lora_rank, s.n_group);
  ggml_tensor* y = ggml_mul_mat(ctx, matrices, ggml_permute(ctx, groups, 0, 2, 1, 3));
  y = ggml_cont(ctx, ggml_permute(ctx, y, 0, 2, 1, 3));  // [output_lora_rank, n_group, n_token]
  return ggml_mul_mat(ctx, w.output_b, ggml_reshape_2d(ctx, y, s.output_lora_rank * s.n_group, n_token));
}

}  // namespace

ggml_tensor* compressed_attention(const LayerInputs& inputs, const CompressedAttentionShape& s,
                                  const CompressedAttentionWeights& w, int layer, ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  ggml_tensor* query = norm(ctx, ggml_mul_mat(ctx, w.q_a, x), w.q_a_norm, s.norm_eps);
  ggml_tensor* q = ggml_reshape_3d(ctx, ggml_mul_mat(ctx, w.q_b, query), s.head_dim, s.n_head, n_token);
  q = rope(ctx, ggml_rms_norm(ctx, q, s.norm_eps), inputs.positions, s.rope);
  ggml_tensor* kv = norm(ctx, ggml_mul_mat(ctx, w.kv, x), w.kv_norm, s.norm_eps);
  kv = rope(ctx, ggml_reshape_3d(ctx, kv, s.head_dim, 1, n_token), inputs.positions, s.rope);
  write_rows(inputs, layer, kWindow, ggml_reshape_2d(ctx, kv, s.head_dim, n_token));

  ggml_tensor* rows = keys(inputs, s, layer, kWindow);
  ggml_tensor* mask = inputs.rows(layer, kWindow).mask;
  if (s.has_blocks()) {
    write_compressed(inputs, s.compressor, w.compressor, layer, kBlocks, x);
    ggml_tensor* of_blocks = inputs.rows(layer, kBlocks).mask;
    if (s.has_indexer()) {
      write_compressed(inputs, s.indexer_compressor, w.indexer_compressor, layer, kIndexer, x);
      if (inputs.rows(layer, kIndexer).n_seen > s.indexer.top_k) {
        ggml_tensor* scores = score_rows(inputs, s.indexer, w.indexer, x, query,
                                         inputs.state->rows(layer, kIndexer), of_blocks);
        of_blocks = chosen_mask(ctx, of_blocks, ggml_top_k(ctx, scores, static_cast<int>(s.indexer.top_k)));
      }
    }
    rows = ggml_concat(ctx, rows, keys(inputs, s, layer, kBlocks), 1);
    mask = ggml_concat(ctx, mask, of_blocks, 0);
  }
  const float scale = 1.0F / std::sqrt(static_cast<float>(s.head_dim));
  ggml_tensor* out =
      attend(inputs, q, rows, {.heads = rows, .of_keys = true}, mask, scale, /*cap=*/0, w.sinks);
  return output(ctx, s, w, rope_back(ctx, out, inputs.positions, s.rope));
}

}  // namespace odmoe
