// Routed experts that another rank computes: what the routers chose goes there, and rows of outputs come
// back.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "cluster/pulse.h"
#include "cluster/transport.h"
#include "cluster/wire.h"
#include "engine/expert_site.h"
#include "odmoe/stats.h"

namespace odmoe {

// What is known of another rank, for statistics.  Thread-safe.
class RankFigures {
 public:
  void add_work(const SiteFigures& worker, uint64_t wait_us, uint64_t sent_bytes, uint64_t received_bytes);
  // How far it is with reading experts ahead, of the last kWarm it knows of.
  void set_warmed(const WarmedNote& warmed);
  WarmedNote warmed() const;
  // Into `rank`, whose number, host and experts stay as they are.
  void read(Stats::Rank& rank) const;

 private:
  mutable Mutex mutex_;
  SiteFigures worker_ ODMOE_GUARDED_BY(mutex_);
  uint64_t wait_us_ ODMOE_GUARDED_BY(mutex_) = 0;
  uint64_t sent_bytes_ ODMOE_GUARDED_BY(mutex_) = 0, received_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;
  WarmedNote warmed_ ODMOE_GUARDED_BY(mutex_);
};

// As ExpertSite.  Errors name the rank and its host.  After one of the transport's, an answer that is not
// understood, or once the rank is silent, every call gives it again; after one of a read over there the next
// work may go well.
class RemoteSite final : public ExpertSite {
 public:
  struct Options {
    int rank = 1;
    WireShape shape;
    const std::atomic<bool>* interrupted = nullptr;  // may be null
    const Clock* clock = &SteadyClock::instance();
  };
  // All must outlive it.  kIo: no memory.
  static Result<std::unique_ptr<RemoteSite>> create(Transport& transport, Pulse& pulse,
                                                    std::shared_ptr<RankFigures> figures,
                                                    const Options& options);
  ~RemoteSite() override;

  // Memory that becomes resident, the transport's room for results included.
  static uint64_t bytes(const WireShape& shape) {
    return max_work_bytes(shape) + 2 * max_result_bytes(shape);
  }

  Status begin(const ExpertWork& work) override;
  Result<std::optional<DemandPair>> finish() override;
  void abandon() override;
  void hint(std::span<const ExpertKey> experts, PrefetchDepth depth) override;

  void warm(std::span<const ExpertKey> experts) override;
  Result<Warmth> warmed() override;

  // Nothing is under way any more: the transport has regrouped.
  void forget() { under_way_ = hinted_ = warms_ = false; }

 private:
  RemoteSite(Transport& transport, Pulse& pulse, std::shared_ptr<RankFigures> figures,
             const Options& options);
  using Time = std::chrono::steady_clock::time_point;
  Result<ReadResult> next_result(const std::atomic<bool>* interrupted, Time until = Time::max());
  Status await_last(const std::atomic<bool>* interrupted, Time until = Time::max());
  void scatter(uint32_t first, std::span<const float> rows) const;
  std::unexpected<Error> broken(ErrorKind kind, std::string_view what);
  Error named(const Error& error) const;

  Transport& transport_;
  Pulse& pulse_;
  std::shared_ptr<RankFigures> figures_;
  Options options_;
  AlignedBuffer message_;
  std::vector<uint8_t> scratch_;  // of write_work()
  std::vector<std::byte> note_;
  ExpertWork work_;
  uint32_t sequence_ = 0;
  bool under_way_ = false;                        // the last result of sequence_ has not come
  uint64_t sent_bytes_ = 0, received_bytes_ = 0;  // of the work under way
  std::vector<DemandPair> pairs_;                 // of the work, in the order of its rows
  std::atomic<bool> hinted_ = false;
  uint32_t n_warm_ = 0;  // kWarm so far
  std::atomic<bool> warms_ = false;
  Warmth warmth_;
};

}  // namespace odmoe
