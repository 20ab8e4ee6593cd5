// A drive as slow as is asked for: one read after the other at a bandwidth, each with a latency on top, and
// on top of that what the system takes to wake a thread at a time (50 us of slack on Linux).  It reads from
// the page cache, so that small reads take next to nothing of a core, where each read of a virtual drive
// takes ten microseconds.  Large ones are copied, which is what direct I/O saves: for those,
// throttled_reader.h.
#pragma once

#include <algorithm>
#include <atomic>
#include <cassert>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

#include "io/async_reader.h"
#include "io/file_table.h"

namespace odmoe {

class SlowDrive final : public AsyncReader {
 public:
  // bytes_per_us is read at every submit(), so that it can be changed meanwhile; 0: as fast as it goes, but
  // for the latency.
  SlowDrive(uint32_t depth, std::shared_ptr<const std::atomic<double>> bytes_per_us, int64_t latency_us)
      : depth_(depth),
        bytes_per_us_(std::move(bytes_per_us)),
        latency_(std::chrono::microseconds(latency_us)) {}

  Result<int> add_file(const std::filesystem::path& path) override { return files_.add(path); }
  int n_file() const override { return static_cast<int>(files_.size()); }
  uint64_t file_bytes(int file) const override { return files_[file].bytes(); }
  const std::filesystem::path& path(int file) const override { return files_[file].path(); }
  ReadAlignment alignment() const override { return {.offset_bytes = 4096, .memory_bytes = 4096}; }
  uint32_t depth() const override { return depth_; }
  uint32_t in_flight() const override { return static_cast<uint32_t>(pending_.size()); }
  std::string_view name() const override { return "slow drive"; }

  void submit(const ReadRequest& request) override {
    assert(pending_.size() < depth_);
    free_at_ = std::max(free_at_, Clock::now());
    if (const double bytes_per_us = *bytes_per_us_; bytes_per_us > 0) {
      free_at_ += std::chrono::nanoseconds(static_cast<int64_t>(request.bytes / bytes_per_us * 1e3));
    }
    pending_.push_back({.request = request, .due = free_at_ + latency_});
  }

  size_t wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) override {
    const Clock::time_point end = timeout ? Clock::now() + *timeout : Clock::time_point::max();
    while (true) {
      const Clock::time_point now = Clock::now();
      size_t n = 0;
      for (; n < out.size() && !pending_.empty() && pending_.front().due <= now; pending_.pop_front()) {
        const ReadRequest& request = pending_.front().request;
        out[n++] = {.id = request.id, .result = files_.read(request)};
      }
      std::unique_lock lock(mutex_);
      if (n > 0 || std::exchange(woken_, false) || now >= end) return n;
      const Clock::time_point until = pending_.empty() ? end : std::min(end, pending_.front().due);
      if (until == Clock::time_point::max()) {
        changed_.wait(lock, [this] { return woken_; });
      } else {
        changed_.wait_until(lock, until, [this] { return woken_; });
      }
    }
  }

  void wake() override {
    {
      const std::scoped_lock lock(mutex_);
      woken_ = true;
    }
    changed_.notify_one();
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Pending {
    ReadRequest request;
    Clock::time_point due;
  };

  FileTable files_{/*direct=*/false};
  uint32_t depth_;
  std::shared_ptr<const std::atomic<double>> bytes_per_us_;
  std::chrono::microseconds latency_;
  Clock::time_point free_at_;
  std::deque<Pending> pending_;  // by when they are due
  std::mutex mutex_;             // of what follows
  std::condition_variable changed_;
  bool woken_ = false;
};

}  // namespace odmoe
