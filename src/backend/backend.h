// The compute device: a thin owner of ggml's backend, found at run time through ggml's registry.
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

// Where tensors may begin in memory that is wrapped.
inline constexpr uint64_t kTensorAlignment = 64;

// One owner: one thread at a time computes.
class Backend {
 public:
  // Loads ggml's backends once per process and takes the best CPU device.  `threads` 0: one per processor
  // that may be used (base/processors.h); more than these are said in the log, for they wait for each other.
  // Errors: kUnsupported when ggml finds no device that computes on host memory.
  static Result<std::unique_ptr<Backend>> create(int threads);

  ggml_backend_t handle() const { return backend_.get(); }
  int threads() const { return threads_; }
  ggml_backend_buffer_type_t buffer_type() const {
    return ggml_backend_get_default_buffer_type(backend_.get());
  }

  // A ggml buffer over memory of ours, which must outlive it.  Page aligned.
  ggml_backend_buffer_ptr wrap(std::span<std::byte> memory) const;

  bool supports(const ggml_tensor* op) const { return ggml_backend_supports_op(backend_.get(), op); }

  // Where the device wants a matrix of this type and shape [n_in, n_out] that is only ever the first operand
  // of ggml_mul_mat: a buffer type of its own that lays rows out for wider kernels (ggml's CPU_REPACK, AMX),
  // filled by ggml_backend_tensor_set, or null where memory of ours is as good.
  ggml_backend_buffer_type_t matrix_buffer_type(ggml_type type, int64_t n_in, int64_t n_out) const;

  // Runs a graph whose tensors all have memory.  kIo names ggml's status when it fails (out of memory).
  Status compute(ggml_cgraph* graph);

  std::string description() const;  // "CPU: AMD EPYC ..., 2 threads"
  std::string features() const;     // what its kernels were built for and use: "AVX2=1 FMA=1 REPACK=1"

 private:
  Backend() = default;
  ggml_backend_dev_t device_ = nullptr;
  ggml_backend_ptr backend_;
  std::vector<ggml_backend_buffer_type_t> extra_buffer_types_;
  int threads_ = 1;
};

}  // namespace odmoe
