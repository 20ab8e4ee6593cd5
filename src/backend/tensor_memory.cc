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
