#include "backend/device_memory.h"

#include "base/units.h"

namespace odmoe {

Result<DeviceMemory> DeviceMemory::allocate(const Backend& backend, uint64_t bytes, Use use) {
  DeviceMemory memory;
  memory.bytes_ = bytes;
  if (backend.computes_on_host_memory()) {
    ODMOE_ASSIGN_OR_RETURN(memory.host_, AlignedBuffer::allocate(bytes, /*huge_pages=*/use == Use::kWhole));
    if (use == Use::kSparse) memory.host_.avoid_huge_pages();
    memory.buffer_ = backend.wrap(memory.host_.span());
    return memory;
  }
  ODMOE_RETURN_IF_ERROR(backend.may_take(bytes));
  memory.buffer_.reset(ggml_backend_buft_alloc_buffer(backend.buffer_type(), bytes));
  if (memory.buffer_ == nullptr) {
    const size_t most = ggml_backend_buft_get_max_size(backend.buffer_type());
    return fail(ErrorKind::kIo, "{} has no {} of memory left{}", backend.description(), format_bytes(bytes),
                bytes > most ? odmoe::format(" in one piece, of {} at most", format_bytes(most)) : "");
  }
  ggml_backend_buffer_clear(memory.buffer_.get(), 0);
  return memory;
}

Result<DeviceMemory> DeviceMemory::allocate_beside(const Backend& device, const Backend& host,
                                                   uint64_t bytes) {
  if (const ggml_backend_buffer_type_t type = device.host_buffer_type(); type != nullptr) {
    DeviceMemory memory;
    memory.buffer_.reset(ggml_backend_buft_alloc_buffer(type, bytes));
    if (memory.buffer_ != nullptr) {
      memory.bytes_ = bytes;
      ggml_backend_buffer_clear(memory.buffer_.get(), 0);
      return memory;
    }
  }
  return allocate(host, bytes);
}

Result<DeviceMemory> DeviceMemory::over(const Backend& backend, std::span<std::byte> memory) {
  DeviceMemory over;
  over.bytes_ = memory.size();
  over.buffer_ = backend.wrap(memory);
  if (over.buffer_ == nullptr) {
    return fail(ErrorKind::kIo, "{} cannot compute on {} of the host's memory", backend.description(),
                format_bytes(memory.size()));
  }
  return over;
}

bool DeviceMemory::place(ggml_tensor* tensor, uint64_t offset) const {
  auto* base = static_cast<std::byte*>(ggml_backend_buffer_get_base(buffer_.get()));
  return ggml_backend_tensor_alloc(buffer_.get(), tensor, base + offset) == GGML_STATUS_SUCCESS;
}

void DeviceMemory::clear(Backend& backend) {
  if (host_.size() > 0) {
    host_.discard(0, host_.size());
  } else {
    backend.clear(buffer_.get());
  }
}

}  // namespace odmoe
