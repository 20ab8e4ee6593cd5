#include "backend/tensor_memory.h"

namespace odmoe {

bool on_host(const ggml_tensor* tensor) {
  const ggml_tensor* owner = tensor->view_src != nullptr ? tensor->view_src : tensor;
  return owner->buffer != nullptr && ggml_backend_buffer_is_host(owner->buffer);
}

std::byte* host_address(const ggml_tensor* tensor) {
  assert(on_host(tensor));
  return static_cast<std::byte*>(tensor->data);
}

std::span<std::byte> host_bytes(const ggml_tensor* tensor) {
  assert(ggml_is_contiguous(tensor));
  return {host_address(tensor), ggml_nbytes(tensor)};
}

void read_tensor(const ggml_tensor* tensor, uint64_t offset, std::span<std::byte> bytes) {
  ggml_backend_tensor_get(tensor, bytes.data(), offset, bytes.size());
}

void write_tensor(ggml_tensor* tensor, uint64_t offset, std::span<const std::byte> bytes) {
  ggml_backend_tensor_set(tensor, bytes.data(), offset, bytes.size());
}

void place_within(const ggml_tensor* whole, ggml_tensor* tensor, uint64_t offset) {
  assert(has_memory(whole) && offset + ggml_nbytes(tensor) <= ggml_nbytes(whole));
  ggml_backend_tensor_alloc(whole->buffer, tensor, static_cast<std::byte*>(whole->data) + offset);
}

namespace {

ggml_backend_buffer_t buffer_of(const ggml_tensor* tensor) {
  return tensor->view_src != nullptr ? tensor->view_src->buffer : tensor->buffer;
}

}  // namespace

std::optional<size_t> step_between(std::span<ggml_tensor* const> tensors) {
  const ggml_backend_buffer_t buffer = buffer_of(tensors[0]);
  const auto begin = [](const ggml_tensor* tensor) { return static_cast<const std::byte*>(tensor->data); };
  if (buffer == nullptr || !has_memory(tensors[0]) || !has_memory(tensors[1])) return std::nullopt;
  const ptrdiff_t step = begin(tensors[1]) - begin(tensors[0]);
  if (step <= 0) return std::nullopt;
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (!has_memory(tensors[i]) || buffer_of(tensors[i]) != buffer) return std::nullopt;
    if (begin(tensors[i]) - begin(tensors[i - 1]) != step) return std::nullopt;
  }
  return static_cast<size_t>(step);
}

void place_from(const ggml_tensor* first, ggml_tensor* tensor) {
  assert(has_memory(first));
  ggml_backend_tensor_alloc(buffer_of(first), tensor, first->data);
}

bool place_laid_out(ggml_backend_buffer_t buffer, ggml_tensor* tensor, std::byte* data) {
  assert(!has_memory(tensor) && tensor->view_src == nullptr);
  tensor->buffer = buffer;
  tensor->data = data;
  return ggml_backend_buffer_init_tensor(buffer, tensor) == GGML_STATUS_SUCCESS && tensor->extra != nullptr;
}

void place_views(ggml_cgraph* graph) {
  for (int i = 0; i < ggml_graph_n_nodes(graph); ++i) {
    ggml_tensor* node = ggml_graph_node(graph, i);
    if (node->view_src != nullptr && node->buffer == nullptr) ggml_backend_view_init(node);
  }
}

}  // namespace odmoe
