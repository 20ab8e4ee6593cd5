// A drive for tests: files in memory (or real ones), with latency, short reads, errors and an order of
// completion that the test decides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "io/async_reader.h"

namespace odmoe {

class FakeReader;

// What a FakeReader reads from and the hand that the test keeps on it.  Thread-safe.  Is the clock of its own
// latency: time stands still until advance_us().
class FakeDisk final : public Clock {
 public:
  // A reason for a read that begins in [begin, end) of a file to go wrong.
  struct Fault {
    std::filesystem::path path;  // empty: any file
    uint64_t begin = 0;
    uint64_t end = std::numeric_limits<uint64_t>::max();
    int error = 0;             // errno; 0: the read is short
    uint32_t short_bytes = 0;  // what a short read brings, at most
    int times = 1;             // how often; -1: always
  };
  struct Read {
    std::filesystem::path path;
    uint64_t offset = 0;
    uint32_t bytes = 0;
    bool operator==(const Read&) const = default;
  };

  // Contents.  A path that was not added is looked for in the file system.
  void add(const std::filesystem::path& path, std::vector<std::byte> contents);
  void truncate(const std::filesystem::path& path,
                uint64_t bytes);  // readers that have it open keep its old size

  // Faults.
  void inject(Fault fault);
  // Makes reads go wrong at random: per cent of them short, per cent of them with EIO, per cent of them with
  // a bit that is wrong; and completions come in random order.
  void randomise(uint32_t seed, int short_percent, int error_percent, int damage_percent = 0);

  // Time and order.
  void set_latency_us(int64_t latency_us);
  void advance_us(int64_t us);
  // A file on a drive of its own, which serves one read after the other at this speed, each with this latency
  // on top.
  void set_speed(const std::filesystem::path& path, int64_t latency_us, double bytes_per_us);
  // From now on time jumps to the next completion, or the end of a timeout, when a reader waits.
  void run_by_itself();
  int64_t now_us() const override;
  void hold();  // from now on reads stay in flight until complete() or resume()
  void resume();
  // Completes the n-th of the reads in flight, counted from the oldest; it must exist.
  void complete(size_t n = 0);

  // What happened.
  std::vector<Read> reads() const;      // every read submitted, in order
  std::vector<Read> in_flight() const;  // from the oldest
  void wait_for_reads(size_t n) const;  // until n reads have been submitted since the beginning
  uint64_t n_read() const;
  uint64_t bytes_read() const;

 private:
  friend class FakeReader;
  struct Pending {
    const FakeReader* reader;
    ReadRequest request;
    std::filesystem::path path;
    int64_t due_us = 0;
    bool released = false;  // by complete()
  };

  struct Speed {
    int64_t latency_us = 0;
    double bytes_per_us = 0;
    double busy_until_us = 0;
  };

  int64_t due_us(const std::filesystem::path& path, uint32_t bytes) ODMOE_REQUIRES(mutex_);
  bool due(const Pending& read) const ODMOE_REQUIRES(mutex_) {
    return read.released || (!held_ && read.due_us <= now_us_);
  }
  int64_t perform(const Pending& read) ODMOE_REQUIRES(mutex_);
  int64_t copy(const Pending& read, uint64_t limit) const ODMOE_REQUIRES(mutex_);

  mutable Mutex mutex_;
  mutable Condition changed_;
  std::map<std::filesystem::path, std::vector<std::byte>> files_ ODMOE_GUARDED_BY(mutex_);
  std::vector<Fault> faults_ ODMOE_GUARDED_BY(mutex_);
  int n_reader_ ODMOE_GUARDED_BY(mutex_) = 0;
  std::vector<Pending> pending_ ODMOE_GUARDED_BY(mutex_);
  std::vector<Read> log_ ODMOE_GUARDED_BY(mutex_);
  uint64_t bytes_read_ ODMOE_GUARDED_BY(mutex_) = 0;
  int64_t latency_us_ ODMOE_GUARDED_BY(mutex_) = 0, now_us_ ODMOE_GUARDED_BY(mutex_) = 0;
  bool held_ ODMOE_GUARDED_BY(mutex_) = false;
  bool runs_by_itself_ ODMOE_GUARDED_BY(mutex_) = false;
  std::map<std::filesystem::path, Speed> speeds_ ODMOE_GUARDED_BY(mutex_);
  std::minstd_rand random_ ODMOE_GUARDED_BY(mutex_);
  int short_percent_ ODMOE_GUARDED_BY(mutex_) = 0, error_percent_ ODMOE_GUARDED_BY(mutex_) = 0,
                     damage_percent_ ODMOE_GUARDED_BY(mutex_) = 0;
  bool shuffled_ ODMOE_GUARDED_BY(mutex_) = false;
};

// AsyncReader on a FakeDisk, of which there may be several.
class FakeReader final : public AsyncReader {
 public:
  FakeReader(std::shared_ptr<FakeDisk> disk, uint32_t depth = 32, ReadAlignment alignment = {});
  // Completes what it has in flight, held or not; without readers the disk holds no more.
  ~FakeReader() override;

  Result<int> add_file(const std::filesystem::path& path) override;
  int n_file() const override { return static_cast<int>(files_.size()); }
  uint64_t file_bytes(int file) const override;
  const std::filesystem::path& path(int file) const override;
  ReadAlignment alignment() const override { return alignment_; }
  uint32_t depth() const override { return depth_; }
  uint32_t in_flight() const override { return in_flight_; }
  std::string_view name() const override { return "fake"; }
  void submit(const ReadRequest& request) override;
  size_t wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) override;
  void wake() override;

 private:
  struct File {
    std::filesystem::path path;
    uint64_t bytes = 0;
  };
  size_t take(std::span<ReadCompletion> out) ODMOE_REQUIRES(disk_->mutex_);

  std::shared_ptr<FakeDisk> disk_;
  uint32_t depth_;
  ReadAlignment alignment_;
  uint32_t in_flight_ = 0;
  std::vector<File> files_;
  bool woken_ ODMOE_GUARDED_BY(disk_->mutex_) = false;
};

}  // namespace odmoe
