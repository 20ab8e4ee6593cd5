// Slots of equal size in memory that a device computes on.
//
// A device has buffers, and takes operands, of a limited size; so slots are divided among windows, and a
// kernel is shown the slots of one.
#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "odmoe/result.h"

namespace odmoe {

// Whether buffers of a type keep a matrix [n_in, n_out] in more bytes than its values take, to which they
// write when it gets its place.
bool pads_matrix(ggml_backend_buffer_type_t buffers, ggml_type type, int64_t n_in, int64_t n_out);

// One owner.  Must not outlive the backend.
class DeviceSlots {
 public:
  struct Shape {
    uint64_t slot_bytes = 0;
    int32_t n_slot = 0;
    int32_t most_in_window = 1;  // that the device takes as one operand
  };
  // How many slots of so many bytes are in one buffer of the device, beside `most_in_window`, and so that no
  // window has one slot alone, if that can be.  0: not one.
  static int32_t slots_in_window(const Backend& backend, const Shape& shape);

  // Of memory of the host, page aligned, which must outlive it, from `first` on: of a device that
  // reads_host_memory().  kIo: the device refuses it.
  static Result<DeviceSlots> over(const Backend& backend, std::span<std::byte> memory, uint64_t first,
                                  const Shape& shape);
  // Of the device's own.  kIo: it has no such amount.
  static Result<DeviceSlots> allocate(const Backend& backend, const Shape& shape);
  DeviceSlots() = default;

  int32_t window_of(int32_t slot) const { return slot / in_window_; }
  int32_t n_window() const { return static_cast<int32_t>(windows_.size()); }
  // Of a window: its first slot, and how many.
  int32_t first_slot(int32_t window) const { return window * in_window_; }
  int32_t n_slot(int32_t window) const { return windows_[static_cast<size_t>(window)].n_slot; }

  // Gives a tensor, whose third stride is the slot, the place `offset` within the window's first slot.
  // False when ggml refuses.
  bool place(ggml_tensor* tensor, int32_t window, uint64_t offset) const;

  // The host's bytes, which stay as they are until Backend::settle(), to the front of a slot of the device's
  // own memory, for what is launched afterwards.
  void send(Backend& backend, int32_t slot, std::span<const std::byte> bytes) const;

 private:
  struct Window {
    DeviceMemory memory;
    uint64_t first_offset = 0;  // of its first slot
    int32_t n_slot = 0;
    ggml_tensor* bytes = nullptr;  // all of it; null: it is the host's
  };
  std::vector<Window> windows_;
  ggml_context_ptr context_;
  uint64_t slot_bytes_ = 0;
  int32_t in_window_ = 1;
};

}  // namespace odmoe
