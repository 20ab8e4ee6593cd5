// A compute device: a thin owner of ggml's backend, found at run time through ggml's registry.
#pragma once

#include <ggml-cpp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

// Where tensors begin in memory that is wrapped, a multiple of what kernels need (kDataAlignment in
// format/expert_source.h).
inline constexpr uint64_t kTensorAlignment = 64;

// One owner: one thread at a time computes.
class Backend {
 public:
  struct Options {
    int threads = 0;  // of a CPU; 0: one per processor that may be used (base/processors.h)
    // As if the device could not compute on host memory, so that what is between them can be tested on a CPU.
    bool memory_of_its_own = false;
  };
  // Loads ggml's backends once per process and takes the best CPU device.  More threads than processors are
  // said in the log, for they wait for each other.  kUnsupported: ggml finds no such device.
  static Result<std::unique_ptr<Backend>> create(const Options& options);
  static Result<std::unique_ptr<Backend>> create(int threads) { return create(Options{.threads = threads}); }

  ggml_backend_t handle() const { return backend_.get(); }
  int threads() const { return threads_; }
  ggml_backend_buffer_type_t buffer_type() const {
    return ggml_backend_get_default_buffer_type(backend_.get());
  }

  // Whether memory of ours can be that of tensors; or else DeviceMemory is the device's.
  bool computes_on_host_memory() const { return on_host_memory_; }

  // What its memory has left, of a device that has its own; 0: it does not say.
  uint64_t available_bytes() const;

  // A ggml buffer over memory of ours, which must outlive it; of a device that computes on it.  Page aligned.
  ggml_backend_buffer_ptr wrap(std::span<std::byte> memory) const;

  bool supports(const ggml_tensor* op) const { return ggml_backend_supports_op(backend_.get(), op); }

  // Where the device wants a matrix of this type and shape [n_in, n_out] that is only ever the first operand
  // of ggml_mul_mat: a buffer type of its own that lays rows out for wider kernels (ggml's CPU_REPACK, AMX),
  // filled by ggml_backend_tensor_set, or null where memory of ours is as good.
  ggml_backend_buffer_type_t matrix_buffer_type(ggml_type type, int64_t n_in, int64_t n_out) const;

  // All such buffer types that the device has.
  std::span<const ggml_backend_buffer_type_t> extra_buffer_types() const { return extra_buffer_types_; }

  // Runs a graph whose tensors all have memory.  kIo names ggml's status when it fails (out of memory).
  // kUnsupported names a matrix that was laid out for another shape of operand than it is multiplied by.
  Status compute(ggml_cgraph* graph);

  std::string description() const;  // "CPU: AMD EPYC ..., 2 threads"
  std::string features() const;     // what its kernels were built for and use: "AVX2=1 FMA=1 REPACK=1"

 private:
  Backend() = default;
  ggml_backend_dev_t device_ = nullptr;
  ggml_backend_ptr backend_;
  std::vector<ggml_backend_buffer_type_t> extra_buffer_types_;
  int threads_ = 1;
  bool on_host_memory_ = true;
};

}  // namespace odmoe
