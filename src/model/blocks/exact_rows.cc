#include "model/blocks/exact_rows.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "backend/tensor_memory.h"
#include "base/aligned_buffer.h"
#include "base/units.h"
#include "model/blocks/trial_weights.h"
#include "model/graph.h"

namespace odmoe {
namespace {

// A product under trial: its tensors, and the memory that they lie in one after the other.
class Trial {
 public:
  static Result<std::unique_ptr<Trial>> create(Backend& backend, ggml_type type, int64_t n_in, int64_t n_out,
                                               int64_t most, const RepackedLayout* layout) {
    std::unique_ptr<Trial> trial(new Trial(backend));
    const auto matrix = [](int64_t columns, int64_t rows) {
      return round_up(static_cast<uint64_t>(columns * rows) * sizeof(float), kTensorAlignment);
    };
    const uint64_t weights_bytes =
        round_up(ggml_row_size(type, n_in) * static_cast<uint64_t>(n_out), kTensorAlignment);
    ODMOE_ASSIGN_OR_RETURN(trial->memory_,
                           AlignedBuffer::allocate(weights_bytes + matrix(n_in, most) + matrix(1, most) +
                                                   2 * matrix(n_out, most)));
    trial->buffer_ = backend.wrap(trial->memory_.span());
    ggml_context* ctx = trial->context_.get();
    trial->weights_ = trial->place(ggml_new_tensor_3d(ctx, type, n_in, n_out, 1), layout);
    trial->input_ = trial->place(ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_in, 1, most));
    trial->ids_ = trial->place(ggml_new_tensor_2d(ctx, GGML_TYPE_I32, 1, most));
    trial->alone_ = trial->place(ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_out, most));
    trial->together_ = trial->place(ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_out, most));
    std::mt19937 random(1);
    trial->fill(layout, random);
    std::ranges::generate(host_values<float>(trial->input_), [&] { return uniform(random); });
    return trial;  // the ids are zeros: the only expert
  }

  // Whether the first n rows in one call are what they are alone.  To be asked for 1, 2, 3, ... in turn.
  Result<bool> same_together(int64_t n) {
    graph_.reset();
    multiply(n - 1, 1, alone_);
    multiply(0, n, together_);
    ODMOE_RETURN_IF_ERROR(backend_->compute(graph_.graph()));
    return std::memcmp(host_address(together_), host_address(alone_),
                       static_cast<size_t>(n) * alone_->nb[1]) == 0;
  }

  // The first n rows times the expert's matrix by itself.
  Status multiply_alone(int64_t n) {
    graph_.reset();
    ggml_tensor* x = ggml_view_2d(graph_.context(), input_, input_->ne[0], n, input_->nb[2], 0);
    ggml_tensor* y = ggml_mul_mat(graph_.context(), weights_, x);
    place_within(together_, y);
    graph_.expand(y);
    return backend_->compute(graph_.graph());
  }

  // What the last call of same_together(n) or multiply_alone(n) gave.
  std::span<const std::byte> together(int64_t n) const {
    return host_bytes(together_).first(static_cast<size_t>(n) * together_->nb[1]);
  }

 private:
  explicit Trial(Backend& backend)
      : backend_(&backend),
        graph_(8),
        context_(
            ggml_init({.mem_size = ggml_tensor_overhead() * 8, .mem_buffer = nullptr, .no_alloc = true})) {}

  ggml_tensor* place(ggml_tensor* tensor, const RepackedLayout* layout = nullptr) {
    if (layout != nullptr) {
      layout->place(tensor, memory_.data() + used_);
    } else {
      ggml_backend_tensor_alloc(buffer_.get(), tensor, memory_.data() + used_);
    }
    used_ += round_up(ggml_nbytes(tensor), kTensorAlignment);
    return tensor;
  }

  void fill(const RepackedLayout* layout, std::mt19937& random) {
    const std::span<std::byte> bytes = memory_.span().first(ggml_nbytes(weights_));  // the first of all
    const int64_t n = ggml_nelements(weights_);
    if (layout == nullptr) return fill_weights(weights_->type, n, bytes, random);
    std::vector<std::byte> plain(bytes.size());
    fill_weights(weights_->type, n, plain, random);
    layout->repack(weights_->type, weights_->ne[0], weights_->ne[1], plain, bytes);
  }

  // Rows [first, first + n) into the same columns of `result`.
  void multiply(int64_t first, int64_t n, ggml_tensor* result) {
    ggml_context* ctx = graph_.context();
    ggml_tensor* x = ggml_view_3d(ctx, input_, input_->ne[0], 1, n, input_->nb[1], input_->nb[2],
                                  input_->nb[2] * static_cast<size_t>(first));
    ggml_tensor* ids = ggml_view_2d(ctx, ids_, 1, n, ids_->nb[1], 0);
    ggml_tensor* y = ggml_mul_mat_id(ctx, weights_, x, ids);
    place_within(result, y, result->nb[1] * static_cast<size_t>(first));
    graph_.expand(y);
  }

  Backend* backend_;
  Graph graph_;
  ggml_context_ptr context_;
  AlignedBuffer memory_;
  ggml_backend_buffer_ptr buffer_;
  uint64_t used_ = 0;
  ggml_tensor *weights_ = nullptr, *input_ = nullptr, *ids_ = nullptr, *alone_ = nullptr,
              *together_ = nullptr;
};

}  // namespace

Result<int32_t> exact_rows(Backend& backend, ggml_type type, int64_t n_in, int64_t n_out, int32_t most,
                           const RepackedLayout* layout) {
  if (most <= 1) return 1;
  ODMOE_ASSIGN_OR_RETURN(
      const auto trial,
      Trial::create(backend, type, n_in, tried_rows(n_in, n_out, most, backend.threads()), most, layout));
  return most_alike(*trial, most);
}

Result<Fingerprint::Value> product_fingerprint(Backend& backend, ggml_type type, int64_t n_in, int64_t n_out,
                                               int32_t most, const RepackedLayout* layout) {
  ODMOE_ASSIGN_OR_RETURN(
      const auto trial,
      Trial::create(backend, type, n_in, tried_rows(n_in, n_out, most, backend.threads()), most, layout));
  Fingerprint all;
  for (int32_t n = 1; n <= most; ++n) {
    ODMOE_RETURN_IF_ERROR(trial->same_together(n));
    all.add(trial->together(n));
    if (layout == nullptr) continue;  // the other kernels are for what is laid out
    ODMOE_RETURN_IF_ERROR(trial->multiply_alone(n));
    all.add(trial->together(n));
  }
  return all.value();
}

}  // namespace odmoe
