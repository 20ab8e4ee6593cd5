#include "backend/device_slots.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/units.h"

namespace odmoe {
namespace {

// Multiples of every system's pages.
constexpr uint64_t kPages = 64 * kKiB;

}  // namespace

bool pads_matrix(ggml_backend_buffer_type_t buffers, ggml_type type, int64_t n_in, int64_t n_out) {
  const ggml_context_ptr context(
      ggml_init({.mem_size = 2 * ggml_tensor_overhead(), .mem_buffer = nullptr, .no_alloc = true}));
  const ggml_tensor* matrix = ggml_new_tensor_2d(context.get(), type, n_in, n_out);
  return ggml_backend_buft_get_alloc_size(buffers, matrix) != ggml_nbytes(matrix);
}

int32_t DeviceSlots::slots_in_window(const Backend& backend, const Shape& shape) {
  const uint64_t most = backend.max_buffer_bytes();
  const uint64_t room = most > 2 * kPages ? most - 2 * kPages : 0;  // what wrapping takes on both sides
  auto n = static_cast<int32_t>(
      std::min<uint64_t>(room / shape.slot_bytes, static_cast<uint64_t>(std::max(0, shape.most_in_window))));
  n = std::min(n, std::max(1, shape.n_slot));
  const auto leaves_one = [&](int32_t in_window) { return shape.n_slot % in_window == 1; };
  for (int32_t fewer = n; fewer > 1; --fewer) {
    if (!leaves_one(fewer)) return fewer;
  }
  return n;
}

Result<DeviceSlots> DeviceSlots::over(const Backend& backend, std::span<std::byte> memory, uint64_t first,
                                      const Shape& shape) {
  DeviceSlots slots;
  slots.in_window_ = std::max(1, slots_in_window(backend, shape));
  // What is behind the last byte in its page is nobody's.
  const uint64_t mapped = round_up(memory.size(), static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  for (int32_t slot = 0; slot < shape.n_slot; slot += slots.in_window_) {
    Window window{.memory = {}, .n_slot = std::min(slots.in_window_, shape.n_slot - slot)};
    const uint64_t begin = first + static_cast<uint64_t>(slot) * shape.slot_bytes;
    const uint64_t end = begin + static_cast<uint64_t>(window.n_slot) * shape.slot_bytes;
    const uint64_t page = round_down(begin, kPages);
    window.first_offset = begin - page;
    const uint64_t last = std::min(round_up(end, kPages), mapped);
    ODMOE_ASSIGN_OR_RETURN(window.memory,
                           DeviceMemory::over(backend, std::span(memory.data() + page, last - page)));
    slots.windows_.push_back(std::move(window));
  }
  return slots;
}

Result<DeviceSlots> DeviceSlots::allocate(const Backend& backend, const Shape& shape) {
  DeviceSlots slots;
  slots.in_window_ = std::max(1, slots_in_window(backend, shape));
  slots.slot_bytes_ = shape.slot_bytes;
  const int32_t n_window = (shape.n_slot + slots.in_window_ - 1) / slots.in_window_;
  slots.context_.reset(ggml_init({.mem_size = static_cast<size_t>(n_window + 1) * ggml_tensor_overhead(),
                                  .mem_buffer = nullptr,
                                  .no_alloc = true}));
  for (int32_t slot = 0; slot < shape.n_slot; slot += slots.in_window_) {
    Window window{.memory = {}, .n_slot = std::min(slots.in_window_, shape.n_slot - slot)};
    const uint64_t bytes = static_cast<uint64_t>(window.n_slot) * shape.slot_bytes;
    ODMOE_ASSIGN_OR_RETURN(window.memory, DeviceMemory::allocate(backend, bytes));
    window.bytes = ggml_new_tensor_1d(slots.context_.get(), GGML_TYPE_I8, static_cast<int64_t>(bytes));
    if (!window.memory.place(window.bytes, 0)) {
      return fail(ErrorKind::kIo, "{} cannot hold experts", backend.description());
    }
    slots.windows_.push_back(std::move(window));
  }
  return slots;
}

bool DeviceSlots::place(ggml_tensor* tensor, int32_t window, uint64_t offset) const {
  const Window& of = windows_[static_cast<size_t>(window)];
  return of.memory.place(tensor, of.first_offset + offset);
}

void DeviceSlots::send(Backend& backend, int32_t slot, std::span<const std::byte> bytes) const {
  const int32_t window = window_of(slot);
  backend.send(windows_[static_cast<size_t>(window)].bytes,
               static_cast<uint64_t>(slot - first_slot(window)) * slot_bytes_, bytes);
}

}  // namespace odmoe
