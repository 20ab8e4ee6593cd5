#include "cli/outlook.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "base/units.h"
#include "engine/memory_plan.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

constexpr int32_t kMostMachines = 255;
constexpr double kLeastNetworkRate = 1e6, kMostNetworkRate = 1e12, kMostLatency = 1;
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
  if (overhead_seconds < 0 || overhead_seconds > kMostLatency) {
    return fail(ErrorKind::kUsage, "--overhead is not what a token takes; write it like 8.5ms");
  }
  if (machines < 1 || machines > kMostMachines) {
    return fail(ErrorKind::kUsage, "--machines {} is not from 1 to {}", machines, kMostMachines);
  }
  if (machines == 1) return {};
  ODMOE_RETURN_IF_ERROR(
      check_rate("--network", network_bytes_per_second, kLeastNetworkRate, kMostNetworkRate, "1.25GB/s"));
  if (latency_seconds < 0 || latency_seconds > kMostLatency) {
    return fail(ErrorKind::kUsage, "--latency is not what a network has; write it like 50us or 0.5ms");
  }
  return {};
}

double expected_most(int32_t n_expert, int32_t machines) {
  // The chance that no machine has more than `most`: n_expert! / machines^n_expert times the coefficient of
  // x^n_expert in (sum over j <= most of x^j / j!)^machines.
  const auto n = static_cast<size_t>(n_expert);
  double expected = 0;
  for (size_t most = 0; most < n; ++most) {
    std::vector<double> ways(n + 1);
    ways[0] = 1;
    for (int32_t machine = 0; machine < machines; ++machine) {
      std::vector<double> next(n + 1);
      for (size_t before = 0; before <= n; ++before) {
        double term = ways[before];
        for (size_t j = 0; j <= most && before + j <= n; ++j) {
          if (j > 0) term *= 1 / (static_cast<double>(j) * machines);
          next[before + j] += term;
        }
      }
      ways = std::move(next);
    }
    double chance = ways[n];
    for (size_t i = 2; i <= n; ++i) chance *= static_cast<double>(i);
    expected += 1 - chance;
  }
  return expected;
}

std::function<double(double)> expected_most_of(int32_t machines) {
  if (machines == 1) return [](double n) { return n; };
  constexpr size_t kCounted = 64;
  std::vector<double> counted(kCounted + 1);
  for (size_t n = 1; n < counted.size(); ++n) counted[n] = expected_most(static_cast<int32_t>(n), machines);
  const double share = 1. / machines;
  // How many such deviations the one with the most has more than its share.
  const auto deviation = [share](double n) { return std::sqrt(n * share * (1 - share)); };
  const double more = (counted[kCounted] - kCounted * share) / deviation(kCounted);
  return [=](double n) {
    if (n >= kCounted) return n * share + more * deviation(n);
    const auto below = static_cast<size_t>(n);
    return std::lerp(counted[below], counted[below + 1], n - static_cast<double>(below));
  };
}

// Those beside the first need the buffers alone.
double share_of_all(const MemoryPlan& whole, uint64_t budget_bytes, int32_t machines) {
  if (machines == 1 || whole.arena_bytes == 0) return expert_share(whole, budget_bytes);
  const uint64_t head = budget_bytes - std::min(budget_bytes, whole.budget_bytes - whole.arena_bytes);
  const uint64_t other = budget_bytes - std::min(budget_bytes, whole.buffer_bytes);
  const auto held =
      static_cast<double>(head) + static_cast<double>(machines - 1) * static_cast<double>(other);
  return std::min(1., held / static_cast<double>(whole.arena_bytes));
}

uint64_t ram_for_all(const PlannedModel& model, int32_t machines) {
  const MemoryPlan& whole = model.whole;
  const auto n = static_cast<uint64_t>(machines);
  const uint64_t budget = (whole.budget_bytes + (n - 1) * whole.buffer_bytes + n - 1) / n;
  return ram_for(std::max(budget, whole.minimum_bytes));
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

namespace {

// The mean over how many of a layer's experts are missing, each with the same chance.
double expected_most_missing(int32_t n_expert, int32_t machines, double chance) {
  double expected = 0;
  double binomial = 1;
  for (int32_t n = 0; n <= n_expert; ++n) {
    if (n > 0) binomial *= static_cast<double>(n_expert - n + 1) / n;
    expected +=
        binomial * std::pow(chance, n) * std::pow(1 - chance, n_expert - n) * expected_most(n, machines);
  }
  return expected;
}

// A layer takes as long as the machine with the most experts, and as the messages to the others and back.
void spread(const PlannedModel& model, const Machine& machine, SpeedInputs& inputs, Outlook& outlook) {
  const int32_t n = machine.machines, n_used = model.n_expert_used;
  const double used = n_used;
  const double most = expected_most(n_used, n),
               missing = expected_most_missing(n_used, n, 1 - outlook.hit_rate);
  inputs.cycle_bytes = static_cast<uint64_t>(static_cast<double>(inputs.cycle_bytes) * most / used);
  outlook.read_hit_rate = most > 0 ? 1 - missing / most : 1;
  const double asked = (n - 1) * (1 - std::pow(1 - 1. / n, n_used));  // other machines
  const double rows = asked + used * (n - 1) / n;                     // there, and back
  outlook.network_bytes = rows * model.n_embd * sizeof(float) * model.n_expert_layer;
  outlook.network_seconds = outlook.network_bytes / machine.network_bytes_per_second +
                            2 * machine.latency_seconds * model.n_expert_layer;
}

}  // namespace

std::optional<Outlook> look_out(const PlannedModel& model, const Machine& machine, const HitRates& rates) {
  const uint64_t budget_bytes = budget_of(machine.ram_bytes);
  if (budget_bytes < model.whole.minimum_bytes) return std::nullopt;
  SpeedInputs inputs = model.speed;
  inputs.memory_bytes_per_second = machine.memory_bytes_per_second;
  inputs.drive_bytes_per_second = machine.drive_bytes_per_second;
  Outlook outlook{.ram_bytes = machine.ram_bytes,
                  .share = share_of_all(model.whole, budget_bytes, machine.machines)};
  outlook.hit_rate = outlook.read_hit_rate = rates.at(outlook.share);
  if (machine.machines > 1) spread(model, machine, inputs, outlook);
  const auto speed = reading_speed(inputs, outlook.read_hit_rate);
  if (!speed) return std::nullopt;
  outlook.speed = *speed;
  outlook.speed.other_seconds = outlook.network_seconds + machine.overhead_seconds;
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
