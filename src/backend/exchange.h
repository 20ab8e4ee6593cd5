// A matrix that the device computes with and the host reads or writes too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/backend.h"
#include "backend/tensor_memory.h"

namespace odmoe {

// Where the device computes on host memory both tensors are one, and nothing is ever copied; elsewhere each
// is a copy of the other once fetch() or send() has been called for what has changed.  Does not own the
// tensors, nor the device.
template <typename T>
class Exchange {
 public:
  Exchange() = default;
  Exchange(Backend& backend, ggml_tensor* device, ggml_tensor* host)
      : backend_(&backend), device_(device), host_(host) {}
  explicit operator bool() const { return device_ != nullptr; }

  ggml_tensor* device() const { return device_; }  // [n_row, n_column], for graphs of the device
  ggml_tensor* host() const { return host_; }      // the same on the host, for graphs of the host

  // What the host has.
  std::span<T> values() const { return host_values<T>(host_); }
  std::span<T> columns(int64_t first, int64_t n) const {
    const auto n_row = static_cast<size_t>(host_->ne[0]);
    return values().subspan(static_cast<size_t>(first) * n_row, static_cast<size_t>(n) * n_row);
  }
  // Columns that the device has written -> the host; nothing that it was asked for is under way.
  void fetch(int64_t first, int64_t n) const {
    if (device_ == host_) return;
    backend_->fetch(device_, static_cast<uint64_t>(first) * device_->nb[1],
                    std::as_writable_bytes(columns(first, n)));
  }
  // Columns that the device will have written -> the host, once Backend::settle() has been called.
  void queue_fetch(int64_t first, int64_t n) const {
    if (device_ == host_) return;
    backend_->queue_fetch(device_, static_cast<uint64_t>(first) * device_->nb[1],
                          std::as_writable_bytes(columns(first, n)));
  }
  // Columns that the host has written -> the device.
  void send(int64_t first, int64_t n) const {
    if (device_ == host_) return;
    backend_->send(device_, static_cast<uint64_t>(first) * device_->nb[1], std::as_bytes(columns(first, n)));
  }
  // The first n values, whatever columns they are of.
  void send_values(size_t n) const {
    if (device_ != host_) backend_->send(device_, 0, std::as_bytes(values().first(n)));
  }

 private:
  Backend* backend_ = nullptr;
  ggml_tensor* device_ = nullptr;
  ggml_tensor* host_ = nullptr;
};

}  // namespace odmoe
