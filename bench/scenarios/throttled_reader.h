// A real reader behind a slower drive: one read after the other at a bandwidth, each with a latency on top.
// Each read costs the cores what it costs on the real drive, and a wake-up more.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "bench/scenarios/forwarding_reader.h"

namespace odmoe {

class ThrottledReader final : public ForwardingReader {
 public:
  // bytes_per_us is read at every submit(), so that it can be changed meanwhile; 0: as fast as it goes.
  ThrottledReader(std::unique_ptr<AsyncReader> inner, std::shared_ptr<std::atomic<double>> bytes_per_us,
                  int64_t latency_us)
      : ForwardingReader(std::move(inner)), bytes_per_us_(std::move(bytes_per_us)), latency_us_(latency_us) {
    due_.reserve(wrapped().depth());
    landed_.reserve(wrapped().depth());
  }
  uint32_t in_flight() const override {
    return wrapped().in_flight() + static_cast<uint32_t>(landed_.size());
  }

  void submit(const ReadRequest& request) override {
    const double now = now_us();
    const double bytes_per_us = *bytes_per_us_;
    free_at_us_ = std::max(free_at_us_, now);
    if (bytes_per_us > 0) free_at_us_ += request.bytes / bytes_per_us;
    due_.push_back({request.id, bytes_per_us > 0 ? free_at_us_ + static_cast<double>(latency_us_) : now});
    wrapped().submit(request);
  }

  size_t wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) override {
    const double begin = now_us();
    while (true) {
      if (const size_t n = take_due(out); n > 0) return n;
      const double now = now_us();
      double end = timeout ? begin + static_cast<double>(timeout->count()) : kNever;
      for (const Landed& landed : landed_) end = std::min(end, landed.due_us);
      std::optional<std::chrono::microseconds> pause;
      if (end < kNever) pause = std::chrono::microseconds(static_cast<int64_t>(std::max(end - now, 0.0)) + 1);
      ReadCompletion completion;
      const size_t n = wrapped().wait({&completion, 1}, pause);
      if (n == 0) {  // awake, or time is up
        const size_t taken = take_due(out);
        const bool is_over = timeout && now_us() >= begin + static_cast<double>(timeout->count());
        if (taken > 0 || is_over || !pause || now_us() < end) return taken;
        continue;
      }
      const auto due = std::ranges::find(due_, completion.id, &Due::id);
      landed_.push_back({completion, due->us});
      due_.erase(due);
    }
  }

 private:
  static constexpr double kNever = 1e300;
  struct Due {
    uint64_t id;
    double us;
  };
  struct Landed {
    ReadCompletion completion;
    double due_us;
  };
  static double now_us() {
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  size_t take_due(std::span<ReadCompletion> out) {
    const double now = now_us();
    size_t n = 0;
    for (size_t i = 0; i < landed_.size() && n < out.size();) {
      if (landed_[i].due_us > now) {
        ++i;
        continue;
      }
      out[n++] = landed_[i].completion;
      landed_.erase(landed_.begin() + static_cast<ptrdiff_t>(i));
    }
    return n;
  }

  std::shared_ptr<std::atomic<double>> bytes_per_us_;
  int64_t latency_us_;
  double free_at_us_ = 0;
  std::vector<Due> due_;        // of what the inner reader has in flight
  std::vector<Landed> landed_;  // there, but not by the slower drive
};

}  // namespace odmoe
