// A head and workers that are threads of this process.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "cluster/head.h"
#include "cluster/testing.h"
#include "cluster/worker.h"
#include "tests/engine/test_models.h"

namespace odmoe::testing {

// Quick to notice what is silent, for tests in which something is; threads that are merely slow must not be.
inline constexpr Pulse::Options kLongSilence{.interval = std::chrono::milliseconds(20),
                                             .silence = std::chrono::minutes(10)};
inline constexpr Pulse::Options kShortSilence{.interval = std::chrono::milliseconds(20),
                                              .silence = std::chrono::seconds(2)};

// One owner.  Workers end with the head, or when the network fails them.
class RanksInThreads {
 public:
  using Change = std::function<void(int rank, WorkerOptions&)>;
  // Workers open the model as `options` say, but for what `change` does.
  RanksInThreads(int n_rank, const EngineOptions& options, Head::Options head_options = {},
                 const Change& change = {})
      : network_(n_rank), outcomes_(static_cast<size_t>(n_rank)), ended_(static_cast<size_t>(n_rank)) {
    for (int rank = 0; rank < n_rank; ++rank) ranks_.push_back(network_.rank(rank));
    if (head_options.pulse.silence == Pulse::Options{}.silence) head_options.pulse = kLongSilence;
    head_ = std::make_unique<Head>(*ranks_[0], head_options);
    for (int rank = 1; rank < n_rank; ++rank) {
      WorkerOptions worker{.engine = options, .pulse = head_options.pulse};
      if (change) change(rank, worker);
      threads_.emplace_back([this, rank, worker = std::move(worker)] {
        outcomes_[static_cast<size_t>(rank)] = run_worker(*ranks_[static_cast<size_t>(rank)], worker).status;
        ended_[static_cast<size_t>(rank)] = true;
      });
    }
  }
  ~RanksInThreads() { end(); }

  Head& head() { return *head_; }
  InProcessNetwork& network() { return network_; }

  // The engine of the head, which goes before this; null after a failure of the test.
  std::unique_ptr<EngineImpl> open(const EngineOptions& options) {
    auto engine = head_->open(options, {});
    if (engine.has_value()) return std::move(*engine);
    ADD_FAILURE() << engine.error().message;
    return nullptr;
  }
  bool has_ended(int rank) const { return ended_[static_cast<size_t>(rank)]; }
  // What became of the workers, by rank.
  const std::vector<Status>& end() {
    head_.reset();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
    return outcomes_;
  }

 private:
  InProcessNetwork network_;
  std::vector<std::unique_ptr<InProcessRank>> ranks_;
  std::unique_ptr<Head> head_;
  std::vector<std::thread> threads_;
  std::vector<Status> outcomes_;
  std::vector<std::atomic<bool>> ended_;
};

}  // namespace odmoe::testing
