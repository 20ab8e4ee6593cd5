#include "model/blocks/compressor.h"

#include "model/blocks/attention.h"
#include "model/blocks/pooled_rows.h"
#include "odmoe/format.h"

namespace odmoe {

CompressorWeights declare_compressor(DenseWeights& weights, const CompressorShape& s, int layer,
                                     const std::string& name) {
  const std::string prefix = odmoe::format("blk.{}.{}_compressor_", layer, name);
  return {.kv = weights.require_matrix(prefix + "kv.weight", s.n_embd, s.width()),
          .gate = weights.require_matrix(prefix + "gate.weight", s.n_embd, s.width()),
          .position = weights.require_as_f32(prefix + "ape.weight", {s.width(), s.ratio}),
          .norm = weights.require(prefix + "norm.weight", {s.head_dim})};
}

std::vector<StateTensor> compressor_state(const CompressorShape& s) {
  return pooled_state(s.head_dim, s.width(), {.tokens_per_row = s.ratio, .made_from = s.made_from()});
}

namespace {

// Of [width, made_from, n_block] what a block takes, [head_dim, made_from, n_block].
ggml_tensor* halves(ggml_context* ctx, const CompressorShape& s, ggml_tensor* rows) {
  if (!s.overlapping) return rows;
  const auto part = [&](int64_t i) {
    const size_t offset =
        rows->nb[1] * static_cast<size_t>(i * s.ratio) + ggml_row_size(rows->type, i * s.head_dim);
    return ggml_view_3d(ctx, rows, s.head_dim, s.ratio, rows->ne[2], rows->nb[1], rows->nb[2], offset);
  };
  return ggml_concat(ctx, part(0), part(1), 1);
}

}  // namespace

void write_compressed(const LayerInputs& inputs, const CompressorShape& s, const CompressorWeights& w,
                      int layer, size_t number, ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const size_t values = number + 1;
  const size_t scores = number + 2;
  write_rows(inputs, layer, values, ggml_mul_mat(ctx, w.kv, x));
  write_rows(inputs, layer, scores, ggml_mul_mat(ctx, w.gate, x));
  const RowInputs& blocks = inputs.rows(layer, number);
  // By place in the block; an overlapping block is made from two of them.
  ggml_tensor* position = s.overlapping ? ggml_concat(ctx, w.position, w.position, 1) : w.position;
  ggml_tensor* scored = ggml_add(ctx, rows_of_blocks(inputs, layer, scores, number), position);
  ggml_tensor* row = pooled(ctx, halves(ctx, s, rows_of_blocks(inputs, layer, values, number)),
                            halves(ctx, s, scored), blocks.sources_mask);
  row = norm(ctx, row, w.norm, s.norm_eps);
  row = rope(ctx, ggml_reshape_3d(ctx, row, s.head_dim, 1, blocks.n_written), blocks.first_positions, s.rope);
  write_rows(inputs, layer, number, ggml_reshape_2d(ctx, row, s.head_dim, blocks.n_written));
}

}  // namespace odmoe
