#include "engine/evaluation_memory.h"

#include "base/units.h"

namespace odmoe {

Result<std::unique_ptr<EvaluationMemory>> EvaluationMemory::create(const Backend& backend,
                                                                   const Decoder& decoder,
                                                                   const Sizes& sizes) {
  std::unique_ptr<EvaluationMemory> memory(new EvaluationMemory);
  const ModelShape& shape = decoder.shape();
  const int64_t n = sizes.tokens;
  const int64_t n_used = shape.router.n_expert_used;
  memory->context_.reset(
      ggml_init({.mem_size = ggml_tensor_overhead() * 16, .mem_buffer = nullptr, .no_alloc = true}));
  std::vector<ggml_tensor*> tensors;
  const auto make = [&](ggml_type type, int64_t ne0, int64_t ne1) {
    tensors.push_back(ggml_new_tensor_2d(memory->context_.get(), type, ne0, ne1));
    return tensors.back();
  };
  Activations& a = memory->all_;
  a.tokens = make(GGML_TYPE_I32, n, 1);
  a.positions = make(GGML_TYPE_I32, n, 1);
  a.kv_rows = make(GGML_TYPE_I64, n, 1);
  a.mask = make(GGML_TYPE_F16, sizes.context, n);
  if (decoder.architecture().scales_queries()) a.query_scale = make(GGML_TYPE_F32, n, 1);
  a.layer_input = make(GGML_TYPE_F32, shape.n_embd, n);
  a.residual = make(GGML_TYPE_F32, shape.n_embd, n);
  a.ffn_input = make(GGML_TYPE_F32, shape.n_embd, n);
  a.router_logits = make(GGML_TYPE_F32, shape.router.n_expert, n);
  a.expert_output = make(GGML_TYPE_F32, shape.n_embd, n_used * n);
  a.expert_weight = make(GGML_TYPE_F32, 1, n_used * n);
  if (decoder.architecture().has_shared_expert()) a.shared_output = make(GGML_TYPE_F32, shape.n_embd, n);
  memory->logits_ = make(GGML_TYPE_F32, shape.n_vocab, sizes.logits);

  uint64_t bytes = 0;
  for (const ggml_tensor* tensor : tensors) bytes += round_up(ggml_nbytes(tensor), kTensorAlignment);
  ODMOE_ASSIGN_OR_RETURN(memory->memory_, AlignedBuffer::allocate(bytes));
  memory->buffer_ = backend.wrap(memory->memory_.span());
  uint64_t offset = 0;
  for (ggml_tensor* tensor : tensors) {
    ggml_backend_tensor_alloc(memory->buffer_.get(), tensor, memory->memory_.data() + offset);
    offset += round_up(ggml_nbytes(tensor), kTensorAlignment);
  }
  memory->make_lanes(sizes.lanes, n_used);
  return memory;
}

void EvaluationMemory::make_lanes(int32_t n_lane, int64_t n_expert_used) {
  constexpr size_t kTensors = 12;
  lanes_.resize(static_cast<size_t>(n_lane));
  lane_context_.reset(ggml_init({.mem_size = ggml_tensor_overhead() * kTensors * lanes_.size(),
                                 .mem_buffer = nullptr,
                                 .no_alloc = true}));
  const auto place = [&](const ggml_tensor* whole, int64_t ne0, int64_t ne1, size_t offset) {
    ggml_tensor* tensor = ggml_new_tensor_2d(lane_context_.get(), whole->type, ne0, ne1);
    ggml_backend_tensor_alloc(buffer_.get(), tensor, static_cast<std::byte*>(whole->data) + offset);
    return tensor;
  };
  const auto value = [&](const ggml_tensor* vector, size_t lane) -> ggml_tensor* {
    if (vector == nullptr) return nullptr;
    return place(vector, 1, 1, lane * vector->nb[0]);
  };
  const auto columns = [&](const ggml_tensor* matrix, size_t lane, int64_t n = 1) -> ggml_tensor* {
    if (matrix == nullptr) return nullptr;
    return place(matrix, matrix->ne[0], n, lane * static_cast<size_t>(n) * matrix->nb[1]);
  };
  for (size_t i = 0; i < lanes_.size(); ++i) {
    lanes_[i] = {.tokens = value(all_.tokens, i),
                 .positions = value(all_.positions, i),
                 .kv_rows = value(all_.kv_rows, i),
                 .mask = columns(all_.mask, i),
                 .query_scale = value(all_.query_scale, i),
                 .layer_input = columns(all_.layer_input, i),
                 .residual = columns(all_.residual, i),
                 .ffn_input = columns(all_.ffn_input, i),
                 .router_logits = columns(all_.router_logits, i),
                 .expert_output = columns(all_.expert_output, i, n_expert_used),
                 .expert_weight = columns(all_.expert_weight, i, n_expert_used),
                 .shared_output = columns(all_.shared_output, i)};
  }
}

}  // namespace odmoe
