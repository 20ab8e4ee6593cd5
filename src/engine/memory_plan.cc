#include "engine/memory_plan.h"

#include <algorithm>
#include <cmath>

#include "base/units.h"

namespace odmoe {

uint64_t auto_margin(uint64_t available_bytes) {
  return std::clamp<uint64_t>(available_bytes / 16, 256 * kMiB, 4 * kGiB);
}

namespace {

// How what is more than a quarter of `bytes` can be made smaller.
const char* remedy(uint64_t bytes, uint64_t kv_bytes, uint64_t buffer_bytes, uint64_t reserved_bytes = 0) {
  if (kv_bytes > bytes / 4) return ", or a smaller --context";
  if (buffer_bytes > bytes / 4) return ", or a smaller --chunk";
  return reserved_bytes > bytes / 4 ? ", or a smaller --max-body and --prompt-cache" : "";
}

}  // namespace

Status check_device(const MemoryPlan::Device& device, const std::string& description, bool bounded) {
  if (device.available_bytes == 0 || device.bytes() <= device.available_bytes) return {};
  const bool known = device.buffer_bytes > 0;
  const std::string more = bounded ? odmoe::format("--device-memory {}MiB or more if it has so much, ",
                                                   (device.bytes() + kMiB - 1) / kMiB)
                                   : "";
  return fail(
      ErrorKind::kBudget,
      "{} of memory may be taken of {}: this model needs {}{} there ({} dense weights, {} KV cache, {} "
      "buffers{}); use {}--device cpu{}",
      format_bytes(device.available_bytes), description, known ? "" : "more than ",
      format_bytes(device.bytes()), format_bytes(device.dense_bytes), format_bytes(device.kv_bytes),
      known ? format_bytes(device.buffer_bytes) : "and",
      device.arena_bytes > 0 ? odmoe::format(", {} experts", format_bytes(device.arena_bytes)) : "", more,
      remedy(device.bytes(), device.kv_bytes, device.buffer_bytes));
}

namespace {

uint64_t fixed_bytes(const MemoryNeeds& needs) {
  return needs.dense_bytes + needs.kv_bytes + needs.buffer_bytes + needs.reserved_bytes +
         needs.device.shared_bytes();
}

uint64_t minimum_bytes(const MemoryNeeds& needs) {
  return std::max(fixed_bytes(needs) + needs.min_arena_bytes,
                  needs.dense_bytes + needs.buffer_bytes + needs.load_bytes + needs.device.shared_bytes());
}

// Of what is available; UINT64_MAX: it is not known.
uint64_t auto_budget(const MemoryNeeds& needs) {
  if (needs.available_bytes == 0) return UINT64_MAX;
  const uint64_t margin = auto_margin(needs.available_bytes);
  return needs.available_bytes > margin ? needs.available_bytes - margin : 0;
}

}  // namespace

uint64_t left_of_budget(const MemoryBudget& budget, const MemoryNeeds& needs) {
  if (budget.kind == MemoryBudget::Kind::kExpertPercent) return UINT64_MAX;
  const uint64_t bytes = budget.kind == MemoryBudget::Kind::kBytes ? budget.bytes : auto_budget(needs);
  if (bytes == UINT64_MAX) return bytes;
  const uint64_t minimum = minimum_bytes(needs);
  return bytes - std::min(bytes, minimum);
}

namespace {

Status check_budget(const MemoryPlan& plan, const MemoryNeeds& needs) {
  if (plan.budget_bytes >= plan.minimum_bytes) return {};
  const uint64_t shared = needs.device.shared_bytes();
  return fail(ErrorKind::kBudget,
              "a budget of {} is too small: this model needs at least {} ({} dense weights, {} KV cache, "
              "{} buffers, {}{}{} experts); use --memory {}MiB or more{}",
              format_bytes(plan.budget_bytes), format_bytes(plan.minimum_bytes),
              format_bytes(needs.dense_bytes), format_bytes(needs.kv_bytes), format_bytes(needs.buffer_bytes),
              needs.reserved_bytes > 0 ? format_bytes(needs.reserved_bytes) + " requests, " : "",
              shared > 0 ? odmoe::format("{} for {}, ", format_bytes(shared), needs.device.name) : "",
              format_bytes(needs.min_arena_bytes), (plan.minimum_bytes + kMiB - 1) / kMiB,
              remedy(plan.minimum_bytes, needs.kv_bytes, needs.buffer_bytes, needs.reserved_bytes));
}

}  // namespace

Result<MemoryPlan> plan_memory(const MemoryBudget& budget, const MemoryNeeds& needs) {
  MemoryPlan plan;
  plan.device = needs.device;
  plan.dense_bytes = needs.dense_bytes;
  plan.kv_bytes = needs.kv_bytes;
  plan.buffer_bytes = needs.buffer_bytes;
  plan.expert_bytes = needs.expert_bytes;
  plan.reserved_bytes = needs.reserved_bytes;
  const uint64_t fixed = fixed_bytes(needs);
  plan.minimum_bytes = minimum_bytes(needs);
  const Status device = check_device(needs.device, needs.device_name, needs.device_is_bounded);

  switch (budget.kind) {
    case MemoryBudget::Kind::kExpertPercent: {
      const double share = budget.percent / 100 * static_cast<double>(needs.max_arena_bytes);
      plan.arena_bytes = std::clamp(static_cast<uint64_t>(std::llround(share)), needs.min_arena_bytes,
                                    needs.max_arena_bytes);
      plan.budget_bytes = std::max(fixed + plan.arena_bytes, plan.minimum_bytes);
      if (!device.has_value()) return std::unexpected(device.error());
      return plan;
    }
    case MemoryBudget::Kind::kBytes:
      plan.budget_bytes = budget.bytes;
      break;
    case MemoryBudget::Kind::kAuto: {
      const uint64_t usable = auto_budget(needs);
      plan.budget_bytes = usable == UINT64_MAX ? fixed + needs.max_arena_bytes : usable;
      break;
    }
  }
  const Status host = check_budget(plan, needs);
  if (!device.has_value() && !host.has_value()) {
    return fail(ErrorKind::kBudget, "{}; besides, {}", device.error().message, host.error().message);
  }
  if (!device.has_value()) return std::unexpected(device.error());
  if (!host.has_value()) return std::unexpected(host.error());
  plan.arena_bytes = std::min(plan.budget_bytes - fixed, needs.max_arena_bytes);
  return plan;
}

}  // namespace odmoe
