#include "model/blocks/block_choice.h"

#include <cmath>
#include <string>

#include "model/blocks/attention.h"
#include "model/blocks/chosen_rows.h"
#include "odmoe/format.h"

namespace odmoe {

BlockChoiceWeights declare_block_choice(DenseWeights& weights, const BlockChoiceShape& s, int layer) {
  const std::string prefix = odmoe::format("blk.{}.indexer.", layer);
  return {.q = weights.require_matrix(prefix + "q_proj.weight", s.n_embd, s.head_dim * s.n_head),
          .q_norm = weights.require(prefix + "q_norm.weight", {s.head_dim}),
          .k = weights.require_matrix(prefix + "k_proj.weight", s.n_embd, s.head_dim),
          .k_norm = weights.require(prefix + "k_norm.weight", {s.head_dim})};
}

StateTensor block_choice_state(const BlockChoiceShape& shape) { return StateTensor::rows(shape.head_dim); }

namespace {

// Of values [n_row, n_token] the largest of each block, [n_block, n_token]; of a block of -infinities the
// least number there is.  More devices pool in two dimensions than in one.
ggml_tensor* largest_of_blocks(ggml_context* ctx, const BlockChoiceShape& s, ggml_tensor* values) {
  const auto block = static_cast<int>(s.block);
  return ggml_pool_2d(ctx, values, GGML_OP_POOL_MAX, block, 1, block, 1, 0, 0);
}

// 1 for the last blocks of those that have visible rows, else 0, [n_block, n_token]; mask: f32 [n_row,
// n_token].  What is visible begins at the first row.
ggml_tensor* last_blocks(ggml_context* ctx, const BlockChoiceShape& s, ggml_tensor* mask) {
  ggml_tensor* visible = ggml_exp(ctx, largest_of_blocks(ctx, s, mask));  // 1 or 0
  ggml_tensor* later = ggml_cont(ctx, ggml_view_2d(ctx, visible, visible->ne[0] - s.last, visible->ne[1],
                                                   visible->nb[1], ggml_row_size(visible->type, s.last)));
  return ggml_sub(ctx, visible, ggml_pad(ctx, later, static_cast<int>(s.last), 0, 0, 0));
}

// The rows of the chosen blocks as 0, others as -infinity, f16 [n_row, n_token]; chosen: i32 [n, n_token].
ggml_tensor* rows_of_chosen(ggml_context* ctx, const BlockChoiceShape& s, ggml_tensor* chosen,
                            int64_t n_block) {
  const int64_t n_token = chosen->ne[1];
  ggml_tensor* none =
      ggml_fill_inplace(ctx, ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_block, n_token), -INFINITY);
  ggml_tensor* blocks = ggml_cast(ctx, put_chosen(ctx, none, chosen, 0), GGML_TYPE_F16);
  ggml_tensor* rows =
      ggml_repeat_4d(ctx, ggml_reshape_3d(ctx, blocks, 1, n_block, n_token), s.block, n_block, n_token, 1);
  return ggml_reshape_2d(ctx, rows, s.block * n_block, n_token);
}

}  // namespace

std::vector<ggml_tensor*> masks_by_blocks(const LayerInputs& inputs, const BlockChoiceShape& s,
                                          const BlockChoiceWeights& w, int layer, size_t number,
                                          ggml_tensor* x) {
  ggml_context* ctx = inputs.context;
  const int64_t n_token = inputs.n_token;
  const auto heads = [&](ggml_tensor* weight, ggml_tensor* weight_of_norm, int64_t n) {
    ggml_tensor* y = ggml_reshape_3d(ctx, ggml_mul_mat(ctx, weight, x), s.head_dim, n, n_token);
    return rope(ctx, norm(ctx, y, weight_of_norm, s.norm_eps), inputs.positions, s.rope);
  };
  write_rows(inputs, layer, number, ggml_reshape_2d(ctx, heads(w.k, w.k_norm, 1), s.head_dim, n_token));
  const RowInputs& rows = inputs.rows(layer, number);
  const int64_t n_block = rows.n_seen / s.block;
  if (n_block <= s.top_k) return {};

  ggml_tensor* mask = ggml_cast(ctx, rows.mask, GGML_TYPE_F32);
  ggml_tensor* more = ggml_scale(ctx, last_blocks(ctx, s, mask), 1e30F);  // than any product
  ggml_tensor* keys = seen_heads(inputs, layer, number, s.head_dim, 1);
  ggml_tensor* queries = heads(w.q, w.q_norm, s.n_head);
  // Head by head: products are of all rows with all tokens, and so are masks.
  std::vector<ggml_tensor*> masks(static_cast<size_t>(s.n_head));
  for (size_t head = 0; head < masks.size(); ++head) {
    ggml_tensor* query =
        ggml_view_2d(ctx, queries, s.head_dim, n_token, queries->nb[2], queries->nb[1] * head);
    ggml_tensor* products = ggml_mul_mat(ctx, keys, query);  // [n_seen, n_token]
    ggml_prec_set_acc(products, GGML_PREC_F32);
    ggml_tensor* scores = ggml_add(ctx, largest_of_blocks(ctx, s, ggml_add(ctx, products, mask)), more);
    ggml_tensor* chosen = ggml_top_k(ctx, scores, static_cast<int>(s.top_k));
    // Where fewer have visible rows, others were chosen too.
    masks[head] = ggml_add(ctx, rows_of_chosen(ctx, s, chosen, n_block), rows.mask);
  }
  return masks;
}

}  // namespace odmoe
