#include "cli/outlook.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/units.h"
#include "engine/memory_plan.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

constexpr uint64_t kLeastRam = 128 * kMiB, kMostRam = 256 * 1024 * kGiB;
constexpr double kLeastMemoryRate = 1e8, kMostMemoryRate = 1e14;
constexpr double kLeastDriveRate = 1e6, kMostDriveRate = 1e12;

// Of memory, in half GiB.
constexpr std::array kSoldSizes = {1,   2,   4,   8,   16,   24,   32,   48,   64,   96,   128,  192,
                                   256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384};

Status check_rate(const char* option, double rate, double least, double most, const char* example) {
  if (rate >= least && rate <= most) return {};
  return fail(ErrorKind::kUsage, "{} of {} is not what a machine has ({} to {}); write it like {}", option,
              format_rate(rate), format_rate(least), format_rate(most), example);
}

}  // namespace

Status Machine::validate() const {
  if (ram_bytes < kLeastRam || ram_bytes > kMostRam) {
    return fail(ErrorKind::kUsage,
                "--ram of {} is not what a machine has ({} to {}); write it with its unit, like 192GiB",
                format_bytes(ram_bytes), format_bytes(kLeastRam), format_bytes(kMostRam));
  }
  ODMOE_RETURN_IF_ERROR(check_rate("--memory-bandwidth", memory_bytes_per_second, kLeastMemoryRate,
                                   kMostMemoryRate, "800GB/s"));
  ODMOE_RETURN_IF_ERROR(
      check_rate("--drive", drive_bytes_per_second, kLeastDriveRate, kMostDriveRate, "6.5GB/s"));
  if (drive_bytes_per_second > memory_bytes_per_second) {
    return fail(ErrorKind::kUsage,
                "--drive {} is faster than --memory-bandwidth {}: no drive is; are they exchanged?",
                format_rate(drive_bytes_per_second), format_rate(memory_bytes_per_second));
  }
  return {};
}

uint64_t budget_of(uint64_t ram_bytes) { return ram_bytes - std::min(ram_bytes, auto_margin(ram_bytes)); }

uint64_t ram_for(uint64_t budget_bytes) {
  // Less than that is not enough: the margin is at most so much.
  uint64_t low = budget_bytes, high = budget_bytes + auto_margin(UINT64_MAX);
  while (low < high) {
    const uint64_t middle = low + (high - low) / 2;
    if (budget_of(middle) >= budget_bytes) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

std::optional<Outlook> look_out(const PlannedModel& model, const Machine& machine, const HitRates& rates) {
  const uint64_t budget_bytes = budget_of(machine.ram_bytes);
  if (budget_bytes < model.whole.minimum_bytes) return std::nullopt;
  SpeedInputs inputs = model.speed;
  inputs.memory_bytes_per_second = machine.memory_bytes_per_second;
  inputs.drive_bytes_per_second = machine.drive_bytes_per_second;
  Outlook outlook{.ram_bytes = machine.ram_bytes, .share = expert_share(model.whole, budget_bytes)};
  outlook.hit_rate = rates.at(outlook.share);
  const auto speed = reading_speed(inputs, outlook.hit_rate);
  if (!speed) return std::nullopt;
  outlook.speed = *speed;
  return outlook;
}

std::vector<Outlook> over_memory(const PlannedModel& model, const Machine& machine, const HitRates& rates) {
  std::vector<uint64_t> sizes{machine.ram_bytes};
  for (const int halves : kSoldSizes) sizes.push_back(static_cast<uint64_t>(halves) * kGiB / 2);
  std::ranges::sort(sizes);
  sizes.erase(std::ranges::unique(sizes).begin(), sizes.end());
  std::vector<Outlook> found;
  for (const uint64_t ram_bytes : sizes) {
    if (!found.empty() && found.back().share >= 1 && ram_bytes != machine.ram_bytes) continue;
    Machine other = machine;
    other.ram_bytes = ram_bytes;
    if (const auto outlook = look_out(model, other, rates)) found.push_back(*outlook);
  }
  return found;
}

}  // namespace odmoe::cli
