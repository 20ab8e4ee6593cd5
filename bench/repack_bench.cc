// What ggml's repacked layouts (its buffer type CPU_REPACK) would be worth for routed experts, and what they
// cost when an expert arrives: the product of one token with eight experts, and of a prompt's pairs, in the
// file's layout and repacked, all at once and expert by expert; and the repacking itself. docs/performance.md
// draws the conclusion.
//
//   odmoe_repack_bench [--benchmark_filter=q4_K]
#include <benchmark/benchmark.h>
#include <ggml-cpp.h>

#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace odmoe {
namespace {

// A projection of Qwen3-30B-A3B's experts.
constexpr int64_t kIn = 2048, kOut = 768;
constexpr int kSlots = 64;

Backend& backend() {
  static const auto instance = Backend::create(0).value();
  return *instance;
}

// Experts of one type in one of the layouts, and a place for activations.
class Experts {
 public:
  Experts(ggml_type type, bool repacked)
      : context_(ggml_init({.mem_size = size_t{1} << 20, .mem_buffer = nullptr, .no_alloc = true})),
        bytes_(ggml_row_size(type, kIn) * kOut),
        type_(type) {
    const ggml_backend_buffer_type_t layout =
        repacked ? backend().matrix_buffer_type(type, kIn, kOut) : backend().buffer_type();
    if (layout == nullptr) return;
    buffer_.reset(ggml_backend_buft_alloc_buffer(layout, bytes_ * kSlots));
    activations_.reset(ggml_backend_buft_alloc_buffer(backend().buffer_type(), size_t{64} << 20));
    std::vector<float> values(static_cast<size_t>(kIn * kOut));
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i) * 0.37F) * 0.02F;
    const std::vector<float> importance(static_cast<size_t>(kIn), 1.0F);
    file_.resize(bytes_);
    ggml_quantize_chunk(type, values.data(), file_.data(), 0, kOut, kIn, importance.data());
    for (int slot = 0; slot < kSlots; ++slot) arrive(slot);
  }

  bool possible() const { return buffer_ != nullptr; }
  size_t bytes() const { return bytes_; }

  // What has to be done with the bytes that the drive brought, once per expert read.
  void arrive(int slot) {
    const ggml_context_ptr context(
        ggml_init({.mem_size = ggml_tensor_overhead() * 2, .mem_buffer = nullptr, .no_alloc = true}));
    ggml_tensor* one = ggml_new_tensor_3d(context.get(), type_, kIn, kOut, 1);
    ggml_backend_tensor_alloc(buffer_.get(), one, base() + bytes_ * static_cast<size_t>(slot));
    ggml_backend_tensor_set(one, file_.data(), 0, bytes_);
  }

  // ids: [n_expert_used, n_token]
  ggml_cgraph* product(std::span<const int32_t> ids, int64_t n_used, int64_t n_token) {
    ggml_context* ctx = context_.get();
    ggml_tensor* weights = ggml_new_tensor_3d(ctx, type_, kIn, kOut, kSlots);
    ggml_backend_tensor_alloc(buffer_.get(), weights, base());
    ggml_tensor* x = place(ggml_new_tensor_3d(ctx, GGML_TYPE_F32, kIn, 1, n_token));
    for (int64_t i = 0; i < ggml_nelements(x); ++i) {
      static_cast<float*>(x->data)[i] = std::sin(static_cast<float>(i));
    }
    ggml_tensor* chosen = place(ggml_new_tensor_2d(ctx, GGML_TYPE_I32, n_used, n_token));
    std::memcpy(chosen->data, ids.data(), ids.size_bytes());
    ggml_cgraph* graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, place(ggml_mul_mat_id(ctx, weights, x, chosen)));
    return graph;
  }

  // The same number of rows for each expert, which is a product of its own.
  ggml_cgraph* products(int64_t n_row) {
    ggml_context* ctx = context_.get();
    ggml_cgraph* graph = ggml_new_graph(ctx);
    for (size_t slot = 0; slot < kSlots; ++slot) {
      ggml_tensor* weights = ggml_new_tensor_2d(ctx, type_, kIn, kOut);
      ggml_backend_tensor_alloc(buffer_.get(), weights, base() + bytes_ * slot);
      ggml_tensor* x = place(ggml_new_tensor_2d(ctx, GGML_TYPE_F32, kIn, n_row));
      for (int64_t i = 0; i < ggml_nelements(x); ++i) {
        static_cast<float*>(x->data)[i] = std::sin(static_cast<float>(i));
      }
      ggml_build_forward_expand(graph, place(ggml_mul_mat(ctx, weights, x)));
    }
    return graph;
  }

 private:
  char* base() const { return static_cast<char*>(ggml_backend_buffer_get_base(buffer_.get())); }
  ggml_tensor* place(ggml_tensor* tensor) {
    ggml_backend_tensor_alloc(activations_.get(), tensor,
                              static_cast<char*>(ggml_backend_buffer_get_base(activations_.get())) + used_);
    used_ += (ggml_nbytes(tensor) + 63) / 64 * 64;
    return tensor;
  }

  ggml_context_ptr context_;
  ggml_backend_buffer_ptr buffer_, activations_;
  std::vector<char> file_;
  size_t bytes_, used_ = 0;
  ggml_type type_;
};

void compute(benchmark::State& state, bool repacked, int64_t n_token, int64_t n_used) {
  Experts experts(static_cast<ggml_type>(state.range(0)), repacked);
  if (!experts.possible()) return state.SkipWithMessage("this ggml repacks no such matrix on this processor");
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n_token * n_used; ++i) ids.push_back(static_cast<int32_t>(i * 7 % kSlots));
  ggml_cgraph* graph = experts.product(ids, n_used, n_token);
  for (auto _ : state) {
    if (!backend().compute(graph).has_value()) return state.SkipWithError("ggml failed");
  }
  state.SetLabel(ggml_type_name(static_cast<ggml_type>(state.range(0))));
}

void compute_by_expert(benchmark::State& state, bool repacked, int64_t n_row) {
  Experts experts(static_cast<ggml_type>(state.range(0)), repacked);
  if (!experts.possible()) return state.SkipWithMessage("this ggml repacks no such matrix on this processor");
  ggml_cgraph* graph = experts.products(n_row);
  for (auto _ : state) {
    if (!backend().compute(graph).has_value()) return state.SkipWithError("ggml failed");
  }
  state.SetLabel(ggml_type_name(static_cast<ggml_type>(state.range(0))));
}

void one_token(benchmark::State& state) { compute(state, false, 1, 8); }
void one_token_repacked(benchmark::State& state) { compute(state, true, 1, 8); }
void prompt(benchmark::State& state) { compute(state, false, 256, 8); }
void prompt_repacked(benchmark::State& state) { compute(state, true, 256, 8); }

// Of as many pairs as the prompt above.
void prompt_by_expert(benchmark::State& state) { compute_by_expert(state, false, 256 * 8 / kSlots); }
void prompt_by_expert_repacked(benchmark::State& state) { compute_by_expert(state, true, 256 * 8 / kSlots); }

void repack(benchmark::State& state) {
  Experts experts(static_cast<ggml_type>(state.range(0)), true);
  if (!experts.possible()) return state.SkipWithMessage("this ggml repacks no such matrix on this processor");
  int slot = 0;
  for (auto _ : state) experts.arrive(slot = (slot + 1) % kSlots);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(experts.bytes()));
  state.SetLabel(ggml_type_name(static_cast<ggml_type>(state.range(0))));
}

void types(benchmark::internal::Benchmark* b) {
  for (const ggml_type type :
       {GGML_TYPE_Q4_K, GGML_TYPE_Q2_K, GGML_TYPE_Q4_0, GGML_TYPE_IQ4_NL, GGML_TYPE_MXFP4})
    b->Arg(type);
  b->UseRealTime()->Unit(benchmark::kMicrosecond);
}

BENCHMARK(one_token)->Apply(types);
BENCHMARK(one_token_repacked)->Apply(types);
BENCHMARK(prompt)->Apply(types);
BENCHMARK(prompt_repacked)->Apply(types);
BENCHMARK(prompt_by_expert)->Apply(types);
BENCHMARK(prompt_by_expert_repacked)->Apply(types);
BENCHMARK(repack)->Apply(types);

}  // namespace
}  // namespace odmoe

BENCHMARK_MAIN();
