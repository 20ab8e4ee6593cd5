// A compute device: a thin owner of ggml's backend, found at run time through ggml's registry.
#pragma once

#include <ggml-cpp.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "odmoe/result.h"
#include "odmoe/stats.h"

namespace odmoe {

// Where tensors begin in memory that is wrapped, a multiple of what kernels need (kDataAlignment in
// format/expert_source.h).
inline constexpr uint64_t kTensorAlignment = 64;

// Which ggml computes, as it names itself: "1.0.0 (1a2b3c)".
std::string ggml_build();

// A device that ggml has found.
struct DeviceInfo {
  std::string name;         // by which it is asked for: "CPU", "Vulkan0"
  std::string description;  // what its maker calls it
  enum class Kind { kCpu, kGpu, kIntegratedGpu } kind = Kind::kCpu;
  uint64_t memory_bytes = 0, free_bytes = 0;  // 0: it does not say
  bool reads_host_memory = false;             // where it is, without a copy
  bool shares_host_memory = false;            // what is its own is of the host's memory too
  bool is_software = false;                   // a driver that computes on the processor
};

// All that can compute, the CPU first.  Loads ggml's backends.
std::vector<DeviceInfo> found_devices();
// The same without opening any of them: reads_host_memory is not known.
std::vector<DeviceInfo> listed_devices();

// One owner: one thread at a time computes.
class Backend {
 public:
  struct Options {
    int threads = 0;     // of a CPU; 0: one per processor that may be used (base/processors.h)
    std::string device;  // DeviceInfo::name, in any case; empty: the CPU
    // As if the device could not compute on host memory, so that what is between them can be tested on a CPU.
    bool memory_of_its_own = false;
    // Of such a CPU: it shares the host's memory with it, as an integrated GPU does.
    bool shares_host_memory = false;
    // For tests: asked before each graph; an error is what the device answers then.
    std::function<Status()> fault;
    // Likewise, before its own memory is taken.
    std::function<Status(uint64_t bytes)> memory_fault;
    uint64_t max_buffer_bytes = 0;                  // for tests: of a smaller device; 0: as ggml says
    const Clock* clock = &SteadyClock::instance();  // of traffic(); must outlive the backend
  };
  // Loads ggml's backends once per process and takes the best CPU device, or the one that is named.  More
  // threads than processors are said in the log, for they wait for each other.  kUsage names the devices
  // there are; kUnsupported: ggml finds no CPU; kIo: the device cannot be used.
  static Result<std::unique_ptr<Backend>> create(const Options& options);
  static Result<std::unique_ptr<Backend>> create(int threads) { return create(Options{.threads = threads}); }

  ggml_backend_t handle() const { return backend_.get(); }
  int threads() const { return threads_; }
  ggml_backend_buffer_type_t buffer_type() const {
    return ggml_backend_get_default_buffer_type(backend_.get());
  }

  // Whether it is the processor, whatever memory it has.
  bool is_cpu() const { return ggml_backend_dev_type(device_) == GGML_BACKEND_DEVICE_TYPE_CPU; }

  // Whether memory of ours can be that of tensors; or else DeviceMemory is the device's.
  bool computes_on_host_memory() const { return on_host_memory_; }

  // Whether what is the device's own is of the host's memory, which both take from then.
  bool shares_host_memory() const { return shares_host_memory_; }

  // Of where tensors begin, at least kTensorAlignment.
  uint64_t alignment() const { return alignment_; }
  // The same as kernels ask it, which may be less.
  uint64_t least_alignment() const { return ggml_backend_buft_get_alignment(buffer_type()); }

  // Whether a device with memory of its own can compute on the host's too, so that wrap() gives something.
  bool reads_host_memory() const { return reads_host_memory_; }
  // The largest buffer that the device has or wraps.
  uint64_t max_buffer_bytes() const {
    const uint64_t most = ggml_backend_buft_get_max_size(buffer_type());
    return max_buffer_bytes_ > 0 ? std::min(most, max_buffer_bytes_) : most;
  }

  // Where the host keeps what goes to and fro, if the device reads and writes there sooner (page-locked
  // memory); else null.
  ggml_backend_buffer_type_t host_buffer_type() const;

  // Whether so much of its own memory may be taken, as far as tests are concerned (Options).
  Status may_take(uint64_t bytes) const { return memory_fault_ ? memory_fault_(bytes) : Status(); }

  // What its memory has left, of a device that has its own; 0: it does not say.
  uint64_t available_bytes() const;

  // A ggml buffer over memory of ours, which must outlive it; of a device that computes on host memory or
  // reads_host_memory().  Page aligned.  Null where the device refuses.
  ggml_backend_buffer_ptr wrap(std::span<std::byte> memory) const;

  bool supports(const ggml_tensor* op) const { return ggml_backend_supports_op(backend_.get(), op); }

  // Where the device wants a matrix of this type and shape [n_in, n_out] that is only ever the first operand
  // of ggml_mul_mat: a buffer type of its own that lays rows out for wider kernels (ggml's CPU_REPACK, AMX),
  // filled by ggml_backend_tensor_set, or null where memory of ours is as good.
  ggml_backend_buffer_type_t matrix_buffer_type(ggml_type type, int64_t n_in, int64_t n_out) const;

  // All such buffer types that the device has.
  std::span<const ggml_backend_buffer_type_t> extra_buffer_types() const { return extra_buffer_types_; }

  // Runs a graph whose tensors all have memory.  kIo names ggml's status when it fails (out of memory).
  // kDeviceLost: what a device's driver says; a device that failed once computes no more, for nobody knows
  // what it has.
  // kUnsupported names a matrix that was laid out for another shape of operand than it is multiplied by.
  Status compute(ggml_cgraph* graph);
  // The same, but a device with memory of its own goes on by itself; what is queued afterwards comes after
  // it.
  Status launch(ggml_cgraph* graph);
  // What a tensor will have then -> the host, once settle() has been called.
  void queue_fetch(const ggml_tensor* tensor, uint64_t offset, std::span<std::byte> bytes);
  // Waits for all that was begun.  Errors as compute().
  Status settle();
  // What a tensor has, now -> the host; settle() has been called.
  void fetch(const ggml_tensor* tensor, uint64_t offset, std::span<std::byte> bytes);
  // The host's bytes, which stay as they are until settle(), -> a tensor, for what is launched afterwards.
  void send(ggml_tensor* tensor, uint64_t offset, std::span<const std::byte> bytes);

  // A tensor's bytes from `offset` on, at once; by any thread, while nothing under way uses them.  They stay
  // as they are where the device fails or has failed before, which the next compute() says.
  void read(const ggml_tensor* tensor, uint64_t offset, std::span<std::byte> bytes);
  void write(ggml_tensor* tensor, uint64_t offset, std::span<const std::byte> bytes);
  void clear(ggml_backend_buffer_t buffer);  // all of it
  // kDeviceLost once the device has failed, so that what was read may be anything.  By any thread.
  Status condition() const;

  // What a device with memory of its own was asked to do so far, but for read(), write() and clear(); views,
  // for which nothing is computed, are no operations.
  const DeviceTraffic& traffic() const { return traffic_; }

  std::string name() const;         // "CPU"
  std::string description() const;  // "CPU: AMD EPYC ..., 2 threads"
  std::string features() const;     // what its kernels were built for and use: "AVX2=1 FMA=1 REPACK=1"

 private:
  Backend() = default;
  Status open_cpu(const Options& options);
  Status open_device(const std::string& name);
  std::unexpected<Error> lost(std::string_view said);
  std::unexpected<Error> lost_error() const ODMOE_REQUIRES(said_mutex_);
  template <typename Move>
  void guard(const Move& move);
  template <typename Move>
  void timed_guard(uint64_t DeviceTraffic::* us, const Move& move);
  Status fetch_queued();
  ggml_backend_dev_t device_ = nullptr;
  ggml_backend_ptr backend_;
  std::vector<ggml_backend_buffer_type_t> extra_buffer_types_;
  int threads_ = 1;
  bool on_host_memory_ = true;
  bool reads_host_memory_ = true;
  bool shares_host_memory_ = false;
  // What is to be fetched is taken when the device has ended, and not by a command of the device's.
  bool fetches_at_the_end_ = false;
  struct Fetch {
    const ggml_tensor* tensor;
    uint64_t offset;
    std::span<std::byte> bytes;
  };
  std::vector<Fetch> queued_;
  uint64_t alignment_ = kTensorAlignment;
  uint64_t max_buffer_bytes_ = 0;
  std::function<Status()> fault_;
  std::function<Status(uint64_t)> memory_fault_;
  std::atomic<bool> lost_ = false;
  mutable Mutex said_mutex_;
  std::string said_ ODMOE_GUARDED_BY(said_mutex_);  // by its driver, when it failed first
  const Clock* clock_ = nullptr;
  DeviceTraffic traffic_;
};

}  // namespace odmoe
