// Keeps the process within its memory while running: the arena of experts has what the dense weights, the
// buffers and the KV caches leave of the budget *now*, and the budget itself follows the machine if it is to.
#pragma once

#include <spdlog/common.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <thread>

#include "base/mutex.h"
#include "engine/memory_grant.h"
#include "engine/memory_plan.h"
#include "odmoe/result.h"
#include "store/expert_store.h"

namespace odmoe {

// Puts into `needs` what an arena for the experts takes, with a reader of this alignment, and what the
// process may have in all, as the system says now.
void add_experts(MemoryNeeds& needs, const ExpertSource& source, ReadAlignment alignment,
                 const SlotKernels& kernels = {});

// What the system says now, by base/memory_info.h.
MemorySample sample_memory();

// Thread-safe.  The store must outlive it.
class MemoryGovernor {
 public:
  struct Limits {
    uint64_t budget_bytes = 0;  // of the process, to begin with
    uint64_t fixed_bytes = 0;   // dense weights and buffers: what is neither KV cache nor arena
    uint64_t min_arena_bytes = 0, max_arena_bytes = 0;
    uint64_t kv_bytes = 0;      // of full KV caches
    uint64_t margin_bytes = 0;  // to be left to others, when following
  };
  // Those of a plan that was made of them.
  static Limits limits_of(const MemoryBudget& budget, const MemoryNeeds& needs, const MemoryPlan& plan);

  // Gives the arena what nobody else uses yet.
  MemoryGovernor(ExpertStore& store, const Limits& limits);
  ~MemoryGovernor();
  MemoryGovernor(const MemoryGovernor&) = delete;
  MemoryGovernor& operator=(const MemoryGovernor&) = delete;

  // Samples ten times a second, in a thread of its own, and makes the budget follow.  Called once, if at all.
  // kIo when no thread can be started.
  Status follow(std::function<MemorySample()> sample);

  // The KV caches are about to take `bytes` more.  The arena has given them up when this returns.  Allocates
  // nothing.
  void take_kv(uint64_t bytes);
  // The KV caches have given memory back.
  void return_kv(uint64_t bytes);
  uint64_t kv_bytes_in_use() const;

 private:
  void adapt(spdlog::level::level_enum level) ODMOE_REQUIRES(mutex_);
  void run(const std::function<MemorySample()>& sample);

  ExpertStore& store_;
  const Limits limits_;
  mutable Mutex mutex_;
  Condition stop_changed_;
  MemoryGrant grant_ ODMOE_GUARDED_BY(mutex_);
  uint64_t kv_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;
  uint64_t asked_bytes_ ODMOE_GUARDED_BY(mutex_);  // what the store was last asked for
  bool stopping_ ODMOE_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace odmoe
