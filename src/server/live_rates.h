// What is going on right now, from counters that only grow: rates over the last seconds.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "odmoe/stats.h"

namespace odmoe::server {

// Of the window's time or demands; nothing: there was none to tell it from.
struct LiveRates {
  std::optional<double> tokens_per_second;          // written, per second of decoding
  std::optional<double> prefill_tokens_per_second;  // of prompts, per second of reading them
  std::optional<double> hit_rate, late_hit_rate;    // shares of the experts asked for
  std::optional<double> stall_share;                // of the time of evaluations, waiting for reads
  std::optional<double> read_bytes_per_second;      // by the clock
};

// One owner.
class RateWindow {
 public:
  static constexpr int64_t kWindowUs = 3'000'000;

  // Counters as of `now_us`, which never goes back.  `running`: whether somebody's text is being written.
  void add(const Stats& stats, bool running, int64_t now_us);
  // Forgets all, after a time when nobody looked.
  void clear();

  const LiveRates& rates() const { return rates_; }

 private:
  struct Sample {
    int64_t at_us = 0;
    uint64_t decode_tokens = 0, prefill_tokens = 0;
    double decode_seconds = 0, prefill_seconds = 0, stall_seconds = 0;
    uint64_t demands = 0, hits = 0, late_hits = 0, read_bytes = 0;
  };
  std::optional<double> decode_speed(const Sample& first, const Sample& last, bool running) const;

  std::deque<Sample> samples_;  // at most as many as came within the window, and one
  int64_t last_token_us_ = 0;
  LiveRates rates_;
};

}  // namespace odmoe::server
