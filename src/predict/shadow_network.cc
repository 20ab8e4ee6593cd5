#include "predict/shadow_network.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "backend/tensor_memory.h"
namespace odmoe {
namespace {

constexpr int32_t kMaxWidth = 1 << 20;
constexpr size_t kMaxBlocks = 16, kMaxHeads = 4;

// Tensors of a layer's graph: two views and the scale, the bias and the copy; per block product, sum, norm,
// scale, shift, activation; per head two products and a sum.
size_t max_tensors(const ShadowPlan::Layer& layer) {
  return 8 + layer.blocks.size() * 6 + layer.heads.size() * 3;
}

// Every index in its bounds and every length where it must fit.
class Checker {
 public:
  explicit Checker(const ShadowPlan& plan) : plan_(&plan) {}

  bool fits(const ShadowPlan::Layer& layer) const {
    if (!width_ok(layer.n_in) || !width_ok(layer.n_out) || layer.blocks.size() > kMaxBlocks ||
        layer.heads.empty() || layer.heads.size() > kMaxHeads ||
        !vector_fits(layer.input_scale, layer.n_in) || !vector_fits(layer.bias, layer.n_out)) {
      return false;
    }
    int32_t width = layer.n_in;
    for (const ShadowPlan::Block& block : layer.blocks) {
      width = after(block.matrix, width);
      if (width == 0 || !vector_fits(block.bias, width) || !vector_fits(block.norm_weight, width) ||
          !vector_fits(block.norm_bias, width)) {
        return false;
      }
    }
    return std::ranges::all_of(layer.heads, [&](const ShadowPlan::Head& head) {
      int32_t out = after(head.matrix, head.from_input ? layer.n_in : width);
      if (out != 0 && head.then != ShadowPlan::kNone) out = after(head.then, out);
      return out == layer.n_out;
    });
  }

 private:
  static bool width_ok(int32_t n) { return n > 0 && n <= kMaxWidth; }
  // The width behind a matrix; 0: there is no such matrix, or it does not take n_in.
  int32_t after(int index, int32_t n_in) const {
    if (index < 0 || std::cmp_greater_equal(index, plan_->matrices.size())) return 0;
    const ShadowPlan::Matrix& m = plan_->matrices[static_cast<size_t>(index)];
    return m.n_in == n_in && width_ok(m.n_out) ? m.n_out : 0;
  }
  bool vector_fits(int index, int32_t n) const {
    return index == ShadowPlan::kNone || (index >= 0 && std::cmp_less(index, plan_->vectors.size()) &&
                                          plan_->vectors[static_cast<size_t>(index)] == n);
  }
  const ShadowPlan* plan_;
};

Status check(const ShadowPlan& plan) {
  const Checker checker(plan);
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    if (!checker.fits(plan.layers[l])) {
      return fail(ErrorKind::kUsage, "the shapes of a predictor's layer {} do not fit together", l);
    }
  }
  if (plan.layers.empty()) return fail(ErrorKind::kUsage, "a predictor without layers");
  return {};
}

}  // namespace

ggml_type suitable_type(const ShadowPlan& plan) {
  uint64_t bytes = 0;
  for (const ShadowPlan::Matrix& m : plan.matrices) {
    // Rows that do not divide into blocks stay f16; that is near enough for the choice.
    bytes += static_cast<uint64_t>(m.n_in) * static_cast<uint64_t>(m.n_out) * ggml_type_size(GGML_TYPE_Q8_0) /
             static_cast<uint64_t>(ggml_blck_size(GGML_TYPE_Q8_0));
  }
  return bytes > kMaxWideWeightBytes ? GGML_TYPE_Q4_0 : GGML_TYPE_Q8_0;
}

Result<std::unique_ptr<ShadowNetwork>> ShadowNetwork::create(const ShadowPlan& plan, const Options& options) {
  ODMOE_RETURN_IF_ERROR(check(plan));
  std::unique_ptr<ShadowNetwork> network(new ShadowNetwork);
  ODMOE_RETURN_IF_ERROR(network->build(plan, options));
  return network;
}

Status ShadowNetwork::build(const ShadowPlan& plan, const Options& options) {
  ODMOE_ASSIGN_OR_RETURN(backend_, Backend::create(1));
  const auto context = [](size_t n_tensor) {
    return ggml_context_ptr(ggml_init(
        {.mem_size = ggml_tensor_overhead() * (n_tensor + 1), .mem_buffer = nullptr, .no_alloc = true}));
  };
  weights_context_ = context(plan.matrices.size() + plan.vectors.size());
  repacked_context_ = context(plan.matrices.size());
  io_context_ = context(2);

  ggml_backend_buffer_type_t repacked_type = nullptr;
  for (const ShadowPlan::Matrix& m : plan.matrices) {
    const bool divides = m.n_in % ggml_blck_size(options.type) == 0;
    const ggml_type type = divides ? options.type : GGML_TYPE_F16;
    // All matrices of the network that can be laid out are of one type, so one kind of buffer does.
    const auto wanted = options.repack ? backend_->matrix_buffer_type(type, m.n_in, m.n_out) : nullptr;
    if (repacked_type == nullptr) repacked_type = wanted;
    ggml_context* place =
        wanted != nullptr && wanted == repacked_type ? repacked_context_.get() : weights_context_.get();
    matrices_.push_back(ggml_new_tensor_2d(place, type, m.n_in, m.n_out));
  }
  for (const int32_t n : plan.vectors) {
    vectors_.push_back(ggml_new_tensor_1d(weights_context_.get(), GGML_TYPE_F32, n));
  }
  x_ = ggml_new_tensor_1d(io_context_.get(), GGML_TYPE_F32,
                          std::ranges::max(plan.layers, {}, &ShadowPlan::Layer::n_in).n_in);
  y_ = ggml_new_tensor_1d(io_context_.get(), GGML_TYPE_F32,
                          std::ranges::max(plan.layers, {}, &ShadowPlan::Layer::n_out).n_out);

  const auto allocate = [](ggml_context* ctx, ggml_backend_buffer_type_t type,
                           ggml_backend_buffer_ptr& buffer) -> Status {
    if (ggml_get_first_tensor(ctx) == nullptr) return {};
    buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(ctx, type));
    if (buffer == nullptr) return fail(ErrorKind::kIo, "no memory for the predictor's weights");
    return {};
  };
  ODMOE_RETURN_IF_ERROR(allocate(weights_context_.get(), backend_->buffer_type(), plain_));
  if (repacked_type != nullptr) {
    ODMOE_RETURN_IF_ERROR(allocate(repacked_context_.get(), repacked_type, repacked_));
  }
  ODMOE_RETURN_IF_ERROR(allocate(io_context_.get(), backend_->buffer_type(), io_));
  for (const ggml_backend_buffer_ptr* buffer : {&plain_, &repacked_}) {
    if (*buffer != nullptr) weight_bytes_ += ggml_backend_buffer_get_size(buffer->get());
  }

  // One working buffer serves all layers, made for the largest: they run one at a time.
  allocator_.reset(ggml_gallocr_new(backend_->buffer_type()));
  for (const ShadowPlan::Layer& layer : plan.layers) {
    const size_t n_tensor = 2 * max_tensors(layer);
    widths_.emplace_back(layer.n_in, layer.n_out);
    graph_contexts_.emplace_back(ggml_init(
        {.mem_size = ggml_tensor_overhead() * n_tensor + ggml_graph_overhead_custom(n_tensor, false),
         .mem_buffer = nullptr,
         .no_alloc = true}));
    ggml_context* ctx = graph_contexts_.back().get();
    graphs_.push_back(ggml_new_graph_custom(ctx, n_tensor, false));
    ggml_build_forward_expand(graphs_.back(), build_layer(ctx, plan, layer));
    for (int i = 0; i < ggml_graph_n_nodes(graphs_.back()); ++i) {
      const ggml_tensor* node = ggml_graph_node(graphs_.back(), i);
      if (backend_->supports(node)) continue;
      return fail(ErrorKind::kUnsupported, "this ggml cannot compute a predictor's {} with weights of {}",
                  ggml_op_desc(node), ggml_type_name(options.type));
    }
    if (!ggml_gallocr_reserve(allocator_.get(), graphs_.back())) {
      return fail(ErrorKind::kIo, "no memory for the predictor's working buffer");
    }
    uint64_t bytes = 0;
    for (const ShadowPlan::Block& block : layer.blocks) {
      bytes += ggml_nbytes(matrices_[static_cast<size_t>(block.matrix)]);
    }
    for (const ShadowPlan::Head& head : layer.heads) {
      bytes += ggml_nbytes(matrices_[static_cast<size_t>(head.matrix)]);
      if (head.then >= 0) bytes += ggml_nbytes(matrices_[static_cast<size_t>(head.then)]);
    }
    layer_bytes_.push_back(bytes);
  }
  for (ggml_cgraph* graph : graphs_) {
    if (!ggml_gallocr_alloc_graph(allocator_.get(), graph)) {
      return fail(ErrorKind::kIo, "no memory for the predictor's working buffer");
    }
  }
  work_bytes_ = ggml_gallocr_get_buffer_size(allocator_.get(), 0) + ggml_backend_buffer_get_size(io_.get());
  // ggml's own scratch memory grows when a graph is first computed: with whatever is in the weights now.
  for (ggml_cgraph* graph : graphs_) ODMOE_RETURN_IF_ERROR(backend_->compute(graph));
  return {};
}

ggml_tensor* ShadowNetwork::build_layer(ggml_context* ctx, const ShadowPlan& plan,
                                        const ShadowPlan::Layer& layer) {
  const auto vector = [&](int index) { return vectors_[static_cast<size_t>(index)]; };
  const auto matrix = [&](int index) { return matrices_[static_cast<size_t>(index)]; };
  ggml_tensor* x = ggml_view_1d(ctx, x_, layer.n_in, 0);
  ggml_tensor* h = layer.input_scale >= 0 ? ggml_mul(ctx, x, vector(layer.input_scale)) : x;
  for (const ShadowPlan::Block& block : layer.blocks) {
    h = ggml_mul_mat(ctx, matrix(block.matrix), h);
    if (block.bias >= 0) h = ggml_add(ctx, h, vector(block.bias));
    if (block.norm_weight >= 0)
      h = ggml_mul(ctx, ggml_norm(ctx, h, plan.norm_eps), vector(block.norm_weight));
    if (block.norm_bias >= 0) h = ggml_add(ctx, h, vector(block.norm_bias));
    h = ggml_silu(ctx, h);
  }
  ggml_tensor* sum = nullptr;
  for (const ShadowPlan::Head& head : layer.heads) {
    ggml_tensor* y = ggml_mul_mat(ctx, matrix(head.matrix), head.from_input ? x : h);
    if (head.then >= 0) y = ggml_mul_mat(ctx, matrix(head.then), y);
    sum = sum == nullptr ? y : ggml_add(ctx, sum, y);
  }
  if (layer.bias >= 0) sum = ggml_add(ctx, sum, vector(layer.bias));
  return ggml_cpy(ctx, sum, ggml_view_1d(ctx, y_, layer.n_out, 0));
}

void ShadowNetwork::set_matrix(size_t index, std::span<const float> values) {
  ggml_tensor* tensor = matrices_[index];
  assert(std::cmp_equal(values.size(), ggml_nelements(tensor)));
  if (tensor->type == GGML_TYPE_F32) {
    ggml_backend_tensor_set(tensor, values.data(), 0, ggml_nbytes(tensor));
    return;
  }
  std::vector<std::byte> bytes(ggml_nbytes(tensor));
  ggml_quantize_chunk(tensor->type, values.data(), bytes.data(), 0, tensor->ne[1], tensor->ne[0], nullptr);
  ggml_backend_tensor_set(tensor, bytes.data(), 0, bytes.size());
}

void ShadowNetwork::set_vector(size_t index, std::span<const float> values) {
  assert(std::cmp_equal(values.size(), ggml_nelements(vectors_[index])));
  ggml_backend_tensor_set(vectors_[index], values.data(), 0, values.size_bytes());
}

std::span<float> ShadowNetwork::input(size_t layer) {
  return {host_values<float>(x_).data(), widths_[layer].first};
}

std::span<const float> ShadowNetwork::output(size_t layer) const {
  return {host_values<float>(y_).data(), widths_[layer].second};
}

Status ShadowNetwork::compute(size_t layer) { return backend_->compute(graphs_[layer]); }

uint64_t ShadowNetwork::bytes_read(size_t layer) const { return layer_bytes_[layer]; }

}  // namespace odmoe
