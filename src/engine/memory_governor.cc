#include "engine/memory_governor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/memory_info.h"
#include "base/mutex.h"
#include "base/units.h"

namespace odmoe {
namespace {

// Memory that others take is noticed within this time; at the few GiB/s at which fresh pages can be touched
// that is what auto_margin() leaves.  A sample takes some tens of microseconds.
constexpr std::chrono::milliseconds kPeriod{100};

}  // namespace

void add_experts(MemoryNeeds& needs, const ExpertSource& source, ReadAlignment alignment,
                 const SlotKernels& kernels) {
  needs.min_arena_bytes = ExpertStore::min_arena_bytes(source, alignment, kernels);
  needs.max_arena_bytes = ExpertStore::max_arena_bytes(source, alignment, kernels);
  needs.expert_bytes = source.total_bytes();
  needs.available_bytes = available_bytes() + resident_bytes();
}

MemorySample sample_memory() {
  return {.now_us = SteadyClock::instance().now_us(),
          .available_bytes = available_bytes(),
          .resident_bytes = resident_bytes(),
          .stall_us = memory_stall_us()};
}

MemoryGovernor::Limits MemoryGovernor::limits_of(const MemoryBudget& budget, const MemoryNeeds& needs,
                                                 const MemoryPlan& plan) {
  Limits limits{.budget_bytes = plan.budget_bytes,
                .fixed_bytes = needs.dense_bytes + needs.buffer_bytes + needs.device.shared_bytes(),
                .min_arena_bytes = needs.min_arena_bytes,
                .max_arena_bytes = needs.max_arena_bytes,
                .kv_bytes = needs.kv_bytes,
                .margin_bytes = auto_margin(needs.available_bytes)};
  if (budget.kind == MemoryBudget::Kind::kExpertPercent) {
    limits.min_arena_bytes = limits.max_arena_bytes = plan.arena_bytes;
  } else if (budget.kind == MemoryBudget::Kind::kBytes) {
    limits.max_arena_bytes = std::min(needs.max_arena_bytes, plan.arena_bytes + needs.kv_bytes);
  }
  return limits;
}

MemoryGovernor::MemoryGovernor(ExpertStore& store, const Limits& limits)
    : store_(store),
      limits_(limits),
      grant_(limits.budget_bytes, std::min(limits.budget_bytes, limits.fixed_bytes + limits.min_arena_bytes),
             std::max(limits.budget_bytes, limits.fixed_bytes + limits.kv_bytes + limits.max_arena_bytes),
             limits.margin_bytes),
      asked_bytes_(store.stats().arena_bytes) {
  const MutexLock lock(mutex_);
  adapt(spdlog::level::debug);
}

MemoryGovernor::~MemoryGovernor() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  stop_changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Status MemoryGovernor::follow(std::function<MemorySample()> sample) {
  assert(!thread_.joinable());
  try {
    thread_ = std::thread([this, sample = std::move(sample)] { run(sample); });
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kIo,
                "cannot start the thread that follows the memory: {}; raise the limit of processes "
                "(ulimit -u) or give --memory a size",
                error.what());
  }
  return {};
}

void MemoryGovernor::take_kv(uint64_t bytes) {
  const MutexLock lock(mutex_);
  kv_bytes_ += bytes;
  adapt(spdlog::level::debug);
}

void MemoryGovernor::return_kv(uint64_t bytes) {
  const MutexLock lock(mutex_);
  assert(bytes <= kv_bytes_);
  kv_bytes_ -= bytes;
  adapt(spdlog::level::debug);
}

uint64_t MemoryGovernor::kv_bytes_in_use() const {
  const MutexLock lock(mutex_);
  return kv_bytes_;
}

void MemoryGovernor::adapt(spdlog::level::level_enum level) {
  // Pages at the edges of rows are counted once too often; the plan counts all that there is.
  const uint64_t others = limits_.fixed_bytes + std::min(kv_bytes_, limits_.kv_bytes);
  const uint64_t left = grant_.bytes() > others ? grant_.bytes() - others : 0;
  const uint64_t wanted = std::clamp(left, limits_.min_arena_bytes, limits_.max_arena_bytes);
  if (wanted == asked_bytes_) return;
  const uint64_t before = std::exchange(asked_bytes_, wanted);
  const uint64_t now = store_.resize(wanted);
  // A formatted message would allocate; only who asked for it pays.
  if (spdlog::should_log(level)) {
    spdlog::log(level, "memory: the arena of experts {} to {} ({} for the process, {} KV cache)",
                wanted < before ? "shrinks" : "grows", format_bytes(now), format_bytes(grant_.bytes()),
                format_bytes(kv_bytes_));
  }
}

void MemoryGovernor::run(const std::function<MemorySample()>& sample) {
  MutexLock lock(mutex_);
  while (true) {
    const auto next = std::chrono::steady_clock::now() + kPeriod;
    while (!stopping_ && stop_changed_.wait_until(mutex_, next)) {
    }
    if (stopping_) return;
    lock.unlock();
    const MemorySample now = sample();
    lock.lock();
    grant_.next(now);
    adapt(spdlog::level::info);
  }
}

}  // namespace odmoe
