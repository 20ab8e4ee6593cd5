// What attention over a long KV cache costs.  Of one token: by flash attention, which goes over keys and
// values once per query head, and by products that go over them once for all heads that share them, with
// values that are kept transposed, or are turned each time (model/blocks/attention.h).  Of the tokens of a
// prompt: by flash attention of the cache as it is, and of what its keys and values are in F32, for tokens
// repeated until they fill a tile.  docs/performance.md draws the conclusion.
//
//   odmoe_attention_bench [--benchmark_filter=f16]
#include <benchmark/benchmark.h>
#include <ggml-cpp.h>

#include <cmath>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace odmoe {
namespace {

struct Shape {
  const char* name;
  int64_t n_head, n_head_kv, key, value;
};
constexpr int64_t kTile = 64;  // queries from which on ggml's flash attention goes over f16 and f32 in tiles
constexpr Shape kQwen3{
    .name = "32 heads on 4 of 128", .n_head = 32, .n_head_kv = 4, .key = 128, .value = 128};
constexpr Shape kKimiK2{
    .name = "64 heads on 1 of 576", .n_head = 64, .n_head_kv = 1, .key = 576, .value = 512};

Backend& backend() {
  static const auto instance = Backend::create(0).value();
  return *instance;
}

enum class Way : uint8_t { kFlash, kTiled, kGrouped, kTurned };

const char* name_of(Way way) {
  switch (way) {
    case Way::kFlash:
      return "flash";
    case Way::kTiled:
      return "tiled";
    case Way::kGrouped:
      return "grouped";
    case Way::kTurned:
      return "turned";
  }
  return "";
}

// A cache of n rows and a graph over it.
class Attention {
 public:
  Attention(const Shape& s, ggml_type keys, ggml_type values, int64_t n, int64_t n_token, Way way)
      : context_(ggml_init({.mem_size = size_t{1} << 20, .mem_buffer = nullptr, .no_alloc = true})) {
    ggml_context* ctx = context_.get();
    const bool flash = way == Way::kFlash || way == Way::kTiled;
    ggml_tensor* q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.key, s.n_head, n_token);
    ggml_tensor* mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, n, n_token);
    ggml_tensor* k_rows = ggml_new_tensor_2d(ctx, keys, s.key * s.n_head_kv, n);
    ggml_tensor* v_rows = way != Way::kGrouped ? ggml_new_tensor_2d(ctx, values, s.value * s.n_head_kv, n)
                                               : ggml_new_tensor_2d(ctx, values, n, s.value * s.n_head_kv);
    const auto heads = [&](ggml_tensor* rows, int64_t dim) {
      return ggml_view_3d(ctx, rows, dim, n, s.n_head_kv, rows->nb[1], ggml_row_size(rows->type, dim), 0);
    };
    const float scale = 1 / std::sqrt(static_cast<float>(s.key));
    graph_ = ggml_new_graph(ctx);
    ggml_tensor* out = nullptr;
    if (flash) {
      ggml_tensor* k = heads(k_rows, s.key);
      ggml_tensor* v = heads(v_rows, s.value);
      ggml_tensor* asked = q;
      ggml_tensor* seen = mask;
      if (way == Way::kTiled) {
        const int64_t times = (kTile + n_token - 1) / n_token;
        if (keys != GGML_TYPE_F16) k = ggml_cast(ctx, k, GGML_TYPE_F32);
        if (keys != GGML_TYPE_F16) v = ggml_cast(ctx, v, GGML_TYPE_F32);
        if (times > 1) asked = ggml_repeat_4d(ctx, q, s.key, s.n_head, n_token * times, 1);
        if (times > 1) seen = ggml_repeat_4d(ctx, mask, n, n_token * times, 1, 1);
      }
      out = ggml_flash_attn_ext(ctx, ggml_permute(ctx, asked, 0, 2, 1, 3), k, v, seen, scale, 0, 0);
      ggml_prec_set_acc(out, GGML_PREC_F32);
    } else {
      const int64_t group = s.n_head / s.n_head_kv;
      ggml_tensor* weights =
          ggml_mul_mat(ctx, heads(k_rows, s.key), ggml_reshape_3d(ctx, q, s.key, group, s.n_head_kv));
      weights = ggml_soft_max_ext(ctx, ggml_reshape_3d(ctx, weights, n, 1, s.n_head), mask, scale, 0);
      ggml_tensor* v = way == Way::kTurned
                           ? ggml_cont(ctx, ggml_permute(ctx, heads(v_rows, s.value), 1, 0, 2, 3))
                           : ggml_view_3d(ctx, v_rows, n, s.value, s.n_head_kv, v_rows->nb[1],
                                          v_rows->nb[1] * static_cast<size_t>(s.value), 0);
      out = ggml_mul_mat(ctx, v, ggml_reshape_3d(ctx, weights, n, group, s.n_head_kv));
    }
    ggml_build_forward_expand(graph_, out);
    buffer_.reset(ggml_backend_alloc_ctx_tensors(ctx, backend().handle()));
    for (ggml_tensor* tensor : {q, k_rows, v_rows}) fill(tensor);
    const std::vector<char> zeros(ggml_nbytes(mask));
    ggml_backend_tensor_set(mask, zeros.data(), 0, zeros.size());
    bytes_ = ggml_nbytes(k_rows) + ggml_nbytes(v_rows);
  }

  void run() { benchmark::DoNotOptimize(backend().compute(graph_).has_value()); }
  size_t bytes() const { return bytes_; }

 private:
  static void fill(ggml_tensor* tensor) {
    std::vector<float> values(static_cast<size_t>(ggml_nelements(tensor)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i % 65521) * 0.37F);
    if (tensor->type == GGML_TYPE_F32) {
      ggml_backend_tensor_set(tensor, values.data(), 0, values.size() * sizeof(float));
      return;
    }
    std::vector<char> bytes(ggml_nbytes(tensor));
    ggml_quantize_chunk(tensor->type, values.data(), bytes.data(), 0, ggml_nrows(tensor), tensor->ne[0],
                        nullptr);
    ggml_backend_tensor_set(tensor, bytes.data(), 0, bytes.size());
  }

  ggml_context_ptr context_;
  ggml_backend_buffer_ptr buffer_;
  ggml_cgraph* graph_ = nullptr;
  size_t bytes_ = 0;
};

void attend(benchmark::State& state, const Shape& shape, ggml_type keys, ggml_type values, Way way) {
  Attention attention(shape, keys, values, state.range(0), state.range(1), way);
  attention.run();
  while (state.KeepRunning()) attention.run();
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(attention.bytes()));
}

benchmark::internal::Benchmark* add(const Shape& shape, ggml_type keys, ggml_type values, Way way) {
  const std::string name = std::string(shape.name) + ", keys " + ggml_type_name(keys) + ", values " +
                           ggml_type_name(values) + ", " + name_of(way);
  return benchmark::RegisterBenchmark(name, attend, shape, keys, values, way)
      ->ArgNames({"rows", "tokens"})
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

}  // namespace
}  // namespace odmoe

int main(int argc, char** argv) {
  using namespace odmoe;
  const std::vector<int64_t> rows = {512, 4096, 16384, 32768};
  for (const Shape& shape : {kQwen3, kKimiK2}) {
    for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16}) {
      for (const Way way : {Way::kFlash, Way::kGrouped, Way::kTurned}) {
        add(shape, type, type, way)->ArgsProduct({rows, {1}});
      }
    }
    add(shape, GGML_TYPE_Q8_0, GGML_TYPE_Q8_0, Way::kFlash)->ArgsProduct({rows, {1}});
    add(shape, GGML_TYPE_Q8_0, GGML_TYPE_F16, Way::kGrouped)->ArgsProduct({rows, {1}});
    for (const ggml_type type : {GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0}) {
      for (const Way way : {Way::kFlash, Way::kTiled}) {
        add(shape, type, type, way)->ArgsProduct({{512, 4096}, {8, 16, 32, 48, 64, 256}});
      }
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
