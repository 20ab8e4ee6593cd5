// The dense weights: everything that stays in memory.  An architecture declares the tensors it needs, with
// their shapes; they are checked against the file, their bytes summed up for the memory plan, and later all
// are read at once.
#pragma once

#include <ggml-cpp.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "backend/device_memory.h"
#include "base/aligned_buffer.h"
#include "base/fingerprint.h"
#include "format/account.h"
#include "io/bulk_read.h"
#include "odmoe/result.h"

namespace odmoe {

// One owner while loading; immutable afterwards.
class DenseWeights {
 public:
  // What is declared is used in the account.  It must outlive the declarations, its checkpoint load().
  explicit DenseWeights(Account& account);

  // Declares a tensor of exactly this shape (ggml order) and returns it; its memory comes with load().
  // A tensor that is missing or has another shape is an error of status(); the result is null then.
  ggml_tensor* require(const std::string& name, std::initializer_list<int64_t> ne);
  // The same, but null without an error when the file has no such tensor.
  ggml_tensor* optional(const std::string& name, std::initializer_list<int64_t> ne);
  // The same for values of any shape that are F32 in every published file, since their kernels take no other.
  // load() finds out whether they are finite: such kernels may make a number of what is not.
  ggml_tensor* require_f32(const std::string& name, std::initializer_list<int64_t> ne);
  // The same for values of any type; they are F32 in memory.
  ggml_tensor* require_as_f32(const std::string& name, std::initializer_list<int64_t> ne);
  // The same as require_f32() for values that routed experts are computed with (reserve()).
  ggml_tensor* require_expert_f32(const std::string& name, std::initializer_list<int64_t> ne);
  // The same for a table of whole numbers that the host reads.
  ggml_tensor* require_host_i32(const std::string& name, std::initializer_list<int64_t> ne);
  // The same as require() for a matrix [n_in, n_out] that is only ever the first operand of ggml_mul_mat, so
  // that the backend may lay its rows out for its kernels: its bytes in memory are then not those of the
  // file.
  ggml_tensor* require_matrix(const std::string& name, int64_t n_in, int64_t n_out);
  ggml_tensor* optional_matrix(const std::string& name, int64_t n_in, int64_t n_out);

  // A tensor that need not be declared, and why (Account::pass_over_tensor).
  void pass_over(const std::string& name, std::string_view reason) {
    account_->pass_over_tensor(name, reason);
  }

  // Declares an F32 tensor computed from `source` (a declared tensor) once that is loaded: `fill` gets the
  // source's values as F32 in its own order and writes all of the result's.
  using Fill = std::function<void(std::span<const float> source, std::span<float> result)>;
  ggml_tensor* derive(const std::string& name, std::initializer_list<int64_t> ne, const ggml_tensor* source,
                      Fill fill);

  // The first error of the declarations so far.
  Status status() const { return status_; }

  // Bytes in the files of all tensors declared so far.
  uint64_t file_bytes() const { return file_bytes_; }

  // Bytes of memory that all declared tensors take, and how many more loading them takes; 0 before reserve().
  uint64_t bytes() const { return bytes_; }
  // What further tensors take of the host's memory, where the device has another; else 0.
  uint64_t host_bytes() const { return host_memory_.size(); }
  uint64_t load_bytes() const { return load_bytes_; }

  // Forgets all declarations but those of what routed experts are computed with, for a machine that computes
  // nothing else: the others' tensors never get memory.  Before reserve().
  void keep_only_of_experts();

  // Gives every tensor its address, so that graphs can be built and measured.  Nothing becomes resident yet.
  // `host` computes on host memory, and may be the same.  Who computes routed experts has what they are
  // computed with besides: `experts_on_device`, or else the host.
  Status reserve(const Backend& backend, const Backend& host, bool experts_on_device = false);

  struct LoadOptions {
    int threads = 1;  // lay matrices out for the backend; one more takes fingerprints meanwhile
    // Called with the bytes read so far, from one thread or another; false ends with kInterrupted.
    std::function<bool(uint64_t bytes_done)> progress;
    std::function<void()> all_read;  // called once, from any thread, when the drive is not needed any more
  };
  // Reads everything declared into what was reserved.  `reader` has the file's parts added, in order.
  Status load(AsyncReader& reader, const LoadOptions& options);

  // Of every byte that load() read: the same for two models whose tables of tensors are the same only if all
  // dense weights are.
  const Fingerprint::Value& fingerprint() const { return fingerprint_; }

 private:
  static constexpr int kPlain = -1;   // in memory_
  static constexpr int kOnHost = -2;  // in host_memory_
  struct Declared {
    ggml_tensor* tensor;
    const TensorInfo* info;  // null for a derived tensor
    const ggml_tensor* source;
    Fill fill;
    uint64_t offset;  // in memory_, or among the tensors of its region
    bool is_matrix = false;
    bool must_be_finite = false;
    bool on_host = false;     // wherever the device computes
    bool of_experts = false;  // where routed experts are computed
    int region = kPlain;      // index into regions_, or one of these
  };

  // Matrices that one of the backend's own buffer types lays out.
  struct Region {
    ggml_backend_buffer_type_t type = nullptr;
    uint64_t bytes = 0;
    ggml_backend_buffer_ptr buffer;
    AlignedBuffer memory;  // of layouts of the CPU's; empty: the buffer has it
    bool place(ggml_tensor* tensor, uint64_t offset) const;
  };
  void require_there(const std::string& name);
  const TensorInfo* use_of_shape(const std::string& name, std::span<const int64_t> ne);
  ggml_tensor* declare(ggml_type type, const std::string& name, std::span<const int64_t> ne,
                       Declared declared);
  uint64_t choose_regions(const Backend& backend, bool experts_on_device);
  void fill_derived() const;
  Status check_finite() const;

  Account* account_;
  const Checkpoint* file_;
  ggml_context_ptr context_;
  std::vector<Declared> declared_;
  uint64_t file_bytes_ = 0, bytes_ = 0, load_bytes_ = 0, plain_bytes_ = 0;
  Status status_;
  DeviceMemory memory_;
  DeviceMemory host_memory_;  // of what experts are computed with, where the device computes elsewhere
  std::vector<Region> regions_;
  Fingerprint::Value fingerprint_;
};

}  // namespace odmoe
