// Divides the budget.  Pure arithmetic, so that every refusal can be tested without a model.
#pragma once

#include <cstdint>
#include <string>

#include "odmoe/options.h"
#include "odmoe/result.h"
#include "odmoe/stats.h"

namespace odmoe {

// What a model needs with the options chosen.  All bytes.
struct MemoryNeeds {
  uint64_t dense_bytes = 0;
  uint64_t kv_bytes = 0;        // of all sessions
  uint64_t buffer_bytes = 0;    // activations, compute buffers, vocabulary, the program itself
  uint64_t reserved_bytes = 0;  // of others in the process
  uint64_t load_bytes = 0;  // on top of the dense weights while they are loaded, before KV and arena are used
  uint64_t min_arena_bytes = 0;  // ExpertStore::min_arena_bytes
  uint64_t max_arena_bytes = 0;  // ExpertStore::max_arena_bytes
  uint64_t expert_bytes = 0;     // all routed experts
  uint64_t available_bytes = 0;  // what the process may have in all, for MemoryBudget::kAuto; 0: unknown
  // In the memory of the device that computes the dense part, where that is another one: none of it is above,
  // and it counts in the budget where that memory is the host's too.
  MemoryPlan::Device device;
  std::string device_name;
  bool device_is_bounded = false;  // by --device-memory: it has more
};

// kAuto leaves this much of what is available to others: a sixteenth, at least 256 MiB, at most 4 GiB.
uint64_t auto_margin(uint64_t available_bytes);

// kBudget when the device has less than that, which names what would do; where its buffers are 0, they are
// not known yet.  `bounded`: MemoryNeeds::device_is_bounded.
Status check_device(const MemoryPlan::Device& device, const std::string& description, bool bounded);

// What the budget leaves beside the least that is needed; of a share of the experts, which is no bound, and
// where nobody says how much there is, UINT64_MAX.
uint64_t left_of_budget(const MemoryBudget& budget, const MemoryNeeds& needs);

// Gives the arena what is left, never more than it can use.  kBudget, with what would do and what takes it,
// when the budget is less than the minimum or the device has less than is needed there; of both, where both
// are too small.
Result<MemoryPlan> plan_memory(const MemoryBudget& budget, const MemoryNeeds& needs);

}  // namespace odmoe
