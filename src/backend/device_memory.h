// Memory in which a device computes.
#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "base/aligned_buffer.h"
#include "odmoe/result.h"

namespace odmoe {

// Ours where the device computes on host memory, and then it costs nothing until it is touched; the device's
// own elsewhere.  Reads as zeros.  Move-only; must not outlive the backend.  One owner.
class DeviceMemory {
 public:
  // What will be touched: all of it soon (large pages are asked for), or a little here and there.
  enum class Use { kWhole, kSparse, kAny };
  // kIo: no memory.
  static Result<DeviceMemory> allocate(const Backend& backend, uint64_t bytes, Use use = Use::kAny);
  // Memory of the host for what goes to and from a device with memory of its own, in Backend's
  // host_buffer_type() if there is one and the system has so much of it; else as of `host`.
  static Result<DeviceMemory> allocate_beside(const Backend& device, const Backend& host, uint64_t bytes);
  // Of memory of the host, page aligned, which must outlive it, for a device that can compute on it
  // (Backend::wrap).  kIo: the device refuses it.
  static Result<DeviceMemory> over(const Backend& backend, std::span<std::byte> memory);
  DeviceMemory() = default;

  uint64_t size() const { return bytes_; }
  // Empty for the device's own.
  std::span<std::byte> host() const { return host_.span(); }

  // Gives a tensor its place.  Offsets are multiples of kTensorAlignment.  False when ggml refuses.
  bool place(ggml_tensor* tensor, uint64_t offset) const;

  // Makes everything zero; what is ours goes back to the system until it is touched again.  Of the backend
  // that it was allocated for.
  void clear(Backend& backend);

 private:
  uint64_t bytes_ = 0;
  AlignedBuffer host_;
  ggml_backend_buffer_ptr buffer_;  // before host_, which it may be over, is gone
};

}  // namespace odmoe
