#include "cli/speed_estimate.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <latch>
#include <numeric>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/clock.h"
#include "base/joining_thread.h"
#include "base/units.h"

namespace odmoe::cli {
namespace {

constexpr int kTries = 3;
constexpr int64_t kTryUs = 10'000;
constexpr uint64_t kMostBytes = 64 * kMiB;
constexpr uint64_t kLeastPartBytes = 64 * kKiB;  // of a thread: the clock is looked at after each pass

// What is added up at once, in registers of their own: with a single sum each load waits for the last.
using Block = std::array<uint64_t, 16>;

uint64_t sum(std::span<const Block> blocks) {
  Block sums{};
  for (const Block& block : blocks) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += block[i];
  }
  return std::accumulate(sums.begin(), sums.end(), uint64_t{0});
}

}  // namespace

SpeedInputs bytes_of_a_token(const ModelInfo& model, const Checkpoint& file) {
  SpeedInputs inputs{.dense_read_bytes = model.dense_bytes, .cycle_bytes = model.cycle_bytes};
  // Of the embedding a token reads one row, unless it is the output head too.
  const TensorInfo* embedding = file.find_tensor("token_embd.weight");
  if (embedding != nullptr && file.find_tensor("output.weight") != nullptr)
    inputs.dense_read_bytes -= std::min(model.dense_bytes, embedding->bytes);
  return inputs;
}

double expert_share(const MemoryPlan& whole, uint64_t budget_bytes) {
  if (whole.arena_bytes == 0) return 1;
  const uint64_t rest = whole.budget_bytes - whole.arena_bytes;
  const uint64_t arena = std::min(whole.arena_bytes, budget_bytes - std::min(rest, budget_bytes));
  return static_cast<double>(arena) / static_cast<double>(whole.arena_bytes);
}

double Speed::overlapped() const {
  const double reading = drive ? std::min(memory, *drive) : memory;
  return other_seconds > 0 ? 1 / (1 / reading + other_seconds) : reading;
}

double Speed::one_after_the_other() const {
  const double reading = drive ? 1 / (1 / memory + 1 / *drive) : memory;
  return other_seconds > 0 ? 1 / (1 / reading + other_seconds) : reading;
}

std::optional<Speed> reading_speed(const SpeedInputs& inputs, double hit_rate) {
  const double missed = static_cast<double>(inputs.cycle_bytes) * (1 - hit_rate);
  if (missed > 0 && inputs.drive_bytes_per_second <= 0) return std::nullopt;
  const auto read_bytes =
      static_cast<double>(inputs.dense_read_bytes + inputs.cycle_bytes + inputs.state_read_bytes);
  Speed speed{.memory = 1 / std::max(read_bytes / inputs.memory_bytes_per_second, 1e-9), .drive = {}};
  if (missed > 0) speed.drive = inputs.drive_bytes_per_second / missed;
  return speed;
}

Result<double> measure_memory_bandwidth(int threads, uint64_t bytes) {
  const auto n_thread = static_cast<size_t>(threads);
  const size_t n_block =
      std::clamp<uint64_t>(bytes / n_thread, kLeastPartBytes, kMostBytes / n_thread + kLeastPartBytes) /
      sizeof(Block);
  // On large pages, as weights are.
  ODMOE_ASSIGN_OR_RETURN(const AlignedBuffer memory,
                         AlignedBuffer::allocate(n_thread * n_block * sizeof(Block), /*huge_pages=*/true));
  // Pages that were never written are all the same page of zeros.
  std::memset(memory.data(), 1, memory.size());
  const auto* const blocks = reinterpret_cast<const Block*>(memory.data());

  const Clock& clock = SteadyClock::instance();
  std::atomic<uint64_t> sink = 0;  // so that the sums are not left out
  double best = 0;
  for (int i = 0; i < kTries; ++i) {
    std::latch all_there(threads);
    std::vector<double> rates(n_thread);
    {
      std::vector<JoiningThread> helpers;
      for (size_t t = 0; t < n_thread; ++t) {
        helpers.emplace_back([&, part = std::span(blocks + t * n_block, n_block), rate = &rates[t]] {
          all_there.arrive_and_wait();
          const int64_t begin_us = clock.now_us();
          int64_t us = 0;
          uint64_t passes = 0;
          for (; us < kTryUs; us = clock.now_us() - begin_us, ++passes) sink += sum(part);
          *rate = static_cast<double>(passes * part.size_bytes()) * 1e6 / static_cast<double>(us);
        });
      }
    }
    best = std::max(best, std::accumulate(rates.begin(), rates.end(), 0.0));
  }
  return best;
}

}  // namespace odmoe::cli
