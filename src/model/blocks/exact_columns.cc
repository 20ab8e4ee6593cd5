#include "model/blocks/exact_columns.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "backend/tensor_memory.h"
#include "model/blocks/trial_weights.h"
#include "model/graph.h"

namespace odmoe {
namespace {

// A product under trial: its tensors, the weights in a buffer of the same type as the real ones.
class ColumnTrial {
 public:
  static Result<std::unique_ptr<ColumnTrial>> create(Backend& backend, const ggml_tensor* like,
                                                     int64_t most) {
    std::unique_ptr<ColumnTrial> trial(new ColumnTrial(backend));
    ggml_context* ctx = trial->context_.get();
    const int64_t n_in = like->ne[0];
    trial->weights_ = ggml_new_tensor_2d(
        ctx, like->type, n_in, tried_rows(n_in, like->ne[1], static_cast<int32_t>(most), backend.threads()));
    const std::span extra = backend.extra_buffer_types();
    const auto layout = ggml_backend_buffer_get_type(like->buffer);
    const bool laid_out = std::ranges::contains(extra, layout);
    trial->weights_buffer_.reset(
        ggml_backend_alloc_ctx_tensors_from_buft(ctx, laid_out ? layout : backend.buffer_type()));
    if (trial->weights_buffer_ == nullptr) return trial->no_memory();
    std::mt19937 random(1);
    std::vector<std::byte> bytes(ggml_nbytes(trial->weights_));
    fill_weights(like->type, ggml_nelements(trial->weights_), bytes, random);
    write_tensor(trial->weights_, 0, bytes);

    trial->input_ = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_in, most);
    trial->alone_ = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, trial->weights_->ne[1], most);
    trial->together_ = ggml_dup_tensor(ctx, trial->alone_);
    trial->buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx, backend.buffer_type()));
    if (trial->buffer_ == nullptr) return trial->no_memory();
    std::ranges::generate(host_values<float>(trial->input_), [&] { return uniform(random); });
    return trial;
  }

  // Whether the first n columns in one call are what they are alone.  To be asked for 1, 2, 3, ... in turn.
  Result<bool> same_together(int64_t n) {
    graph_.reset();
    multiply(n - 1, 1, alone_);
    multiply(0, n, together_);
    ODMOE_RETURN_IF_ERROR(backend_->compute(graph_.graph()));
    return std::memcmp(host_address(together_), host_address(alone_),
                       static_cast<size_t>(n) * alone_->nb[1]) == 0;
  }

 private:
  explicit ColumnTrial(Backend& backend)
      : backend_(&backend),
        graph_(8),
        context_(
            ggml_init({.mem_size = ggml_tensor_overhead() * 8, .mem_buffer = nullptr, .no_alloc = true})) {}

  std::unexpected<Error> no_memory() const {
    return fail(ErrorKind::kIo, "no memory to try out products of {} with several columns",
                ggml_type_name(weights_->type));
  }

  // Columns [first, first + n) into the same of `result`.
  void multiply(int64_t first, int64_t n, ggml_tensor* result) {
    ggml_context* ctx = graph_.context();
    ggml_tensor* x = ggml_view_2d(ctx, input_, input_->ne[0], n, input_->nb[1],
                                  input_->nb[1] * static_cast<size_t>(first));
    ggml_tensor* y = ggml_mul_mat(ctx, weights_, x);
    place_within(result, y, result->nb[1] * static_cast<size_t>(first));
    graph_.expand(y);
  }

  Backend* backend_;
  Graph graph_;
  ggml_context_ptr context_;
  ggml_backend_buffer_ptr weights_buffer_, buffer_;
  ggml_tensor *weights_ = nullptr, *input_ = nullptr, *alone_ = nullptr, *together_ = nullptr;
};

}  // namespace

Result<int32_t> exact_columns(Backend& backend, const ggml_tensor* weights, int32_t most) {
  if (most <= 1) return 1;
  ODMOE_ASSIGN_OR_RETURN(const auto trial, ColumnTrial::create(backend, weights, most));
  return most_alike(*trial, most);
}

}  // namespace odmoe
