#include "cli/speed_estimate.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/units.h"

namespace odmoe::cli {
namespace {

struct Point {
  double share, hit_rate;
};
// docs/residency.md, forecast.  A share of nothing hits nothing; with all of the experts only their first use
// misses.
constexpr std::array<Point, 6> kHitRates = {
    {{0, 0}, {.0625, .434}, {.125, .584}, {.25, .768}, {.5, .877}, {1, 1}}};

}  // namespace

double expected_hit_rate(double share) {
  share = std::clamp(share, 0.0, 1.0);
  size_t i = 1;
  while (share > kHitRates[i].share) ++i;
  const Point& a = kHitRates[i - 1];
  const Point& b = kHitRates[i];
  return a.hit_rate + (b.hit_rate - a.hit_rate) * (share - a.share) / (b.share - a.share);
}

std::optional<double> most_tokens_per_second(const SpeedInputs& inputs, double share) {
  const double missed = static_cast<double>(inputs.cycle_bytes) * (1 - expected_hit_rate(share));
  if (missed > 0 && inputs.drive_bytes_per_second <= 0) return std::nullopt;
  const double from_drive = missed > 0 ? missed / inputs.drive_bytes_per_second : 0;
  const double from_memory =
      static_cast<double>(inputs.dense_read_bytes + inputs.cycle_bytes) / inputs.memory_bytes_per_second;
  return 1 / std::max({from_drive, from_memory, 1e-9});
}

double measure_memory_bandwidth(int threads) {
  constexpr int kTries = 3;
  std::vector<uint64_t> data(64 * kMiB / sizeof(uint64_t), 1);
  double best = 0;
  std::atomic<uint64_t> sink = 0;  // so that the sums are not left out
  for (int i = 0; i < kTries; ++i) {
    const int64_t begin_us = SteadyClock::instance().now_us();
    {
      std::vector<std::jthread> helpers;
      const size_t part = data.size() / static_cast<size_t>(threads);
      for (int t = 0; t < threads; ++t) {
        helpers.emplace_back([&, t] {
          uint64_t sum = 0;
          const uint64_t* const first = data.data() + static_cast<size_t>(t) * part;
          for (size_t j = 0; j < part; ++j) sum += first[j];
          sink += sum;
        });
      }
    }
    const int64_t us = std::max<int64_t>(SteadyClock::instance().now_us() - begin_us, 1);
    best =
        std::max(best, static_cast<double>(data.size() * sizeof(uint64_t)) * 1e6 / static_cast<double>(us));
  }
  return best;
}

}  // namespace odmoe::cli
