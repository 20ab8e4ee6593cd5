// Where the values of tensors are.  No code outside of this folder looks at a tensor's address: on a device
// with memory of its own the host may not use it.
#pragma once

#include <ggml-cpp.h>

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace odmoe {

inline bool has_memory(const ggml_tensor* tensor) { return tensor->data != nullptr; }

// Whether the host can read and write the values where they are.
bool on_host(const ggml_tensor* tensor);

// Where a tensor on_host() begins.
std::byte* host_address(const ggml_tensor* tensor);
// All bytes or values of a contiguous tensor on_host(); of a view, from where it begins.
std::span<std::byte> host_bytes(const ggml_tensor* tensor);
template <typename T>
std::span<T> host_values(const ggml_tensor* tensor) {
  assert(ggml_type_size(tensor->type) == sizeof(T) && ggml_blck_size(tensor->type) == 1);
  const std::span<std::byte> bytes = host_bytes(tensor);
  return {reinterpret_cast<T*>(bytes.data()), bytes.size() / sizeof(T)};
}

// Bytes of a tensor from `offset` on, wherever it is; waits until they are there.
void read_tensor(const ggml_tensor* tensor, uint64_t offset, std::span<std::byte> bytes);
void write_tensor(ggml_tensor* tensor, uint64_t offset, std::span<const std::byte> bytes);

// Gives a tensor without memory that of another one, from an offset into it on: what an operation gives is
// then written there.
void place_within(const ggml_tensor* whole, ggml_tensor* tensor, uint64_t offset = 0);

// Tensors of one buffer that lie in it in equal steps, in their order: how many bytes from one to the next,
// of at least two.  Nothing: they do not, or have no memory.
std::optional<size_t> step_between(std::span<ggml_tensor* const> tensors);

// Gives a tensor without memory that from where `first` begins on, in the same buffer, where all of it is
// somebody's.
void place_from(const ggml_tensor* first, ggml_tensor* tensor);

// Gives a tensor without memory that at `data`, in the layout of the buffer's type (ggml's CPU_REPACK, AMX).
// The buffer has kLayoutBufferBytes, which nobody uses: of an empty one ggml would compute with the tensor as
// if it were not laid out, without a word.  False when ggml does not lay it out.
inline constexpr size_t kLayoutBufferBytes = 64;
bool place_laid_out(ggml_backend_buffer_t buffer, ggml_tensor* tensor, std::byte* data);

// Makes known where views in a graph are, of which everything else has memory: a device asks each node.
void place_views(ggml_cgraph* graph);

}  // namespace odmoe
