// Whether prefetching pays, found out by doing without it now and then.
//
// Trials: a few tokens with, a few without, in turns (on off off on ...), so that a drift hits both alike.
// How long a token takes depends mostly on how many of its experts were missing, which varies far more than
// what is to be measured; so both halves are compared at the same number of missing experts:
//
//   time(m) = compute + wait * m     compute: a token's time less its stalls, on average;
//                                    wait: stalls over experts that were not resident of themselves
//
// The verdict holds for a while, longer each time that it is found again, and is looked into anew when the
// number of missing experts has changed much.
#pragma once

#include <cstdint>

namespace odmoe {

// Deterministic: the same calls give the same answers.  One owner.
class PrefetchGovernor {
 public:
  static constexpr int kWarmUp = 16;      // tokens before the first trial: they pay for things done once
  static constexpr int kBlockTokens = 4;  // with or without, before it is the other's turn
  static constexpr int kTrialBlocks = 8;  // of a trial
  static constexpr int kLeastHold = 64;   // tokens for which a verdict holds at first,
  static constexpr int kMostHold = 2048;  // and at most
  static constexpr double kChange = 2;    // how much more or fewer missing experts are another situation

  struct Token {
    int64_t us = 0;        // what the token took,
    int64_t stall_us = 0;  // of which it waited for reads
    uint64_t missing = 0;  // its experts that were not in memory, or only because of a prefetch
  };

  // Whether the token that comes is to be prefetched for.
  bool on() const { return in_trial() ? block_on() : verdict_; }

  // What that token took.
  void token_done(const Token& token);

  bool verdict() const { return verdict_; }
  // Tokens per second with prefetching over those without, by the last trial; 0 before the first has ended.
  double gain() const { return gain_; }
  uint64_t n_trial() const { return n_trial_; }  // that have ended

 private:
  struct Half {
    double tokens = 0, compute_us = 0, stall_us = 0, missing = 0;
    void add(const Token& token);
    double time_us(double missing_per_token) const;
  };
  bool in_trial() const { return hold_left_ == 0; }
  bool block_on() const;
  void end_trial();

  bool verdict_ = true;  // a guess, until the first trial has ended
  double gain_ = 0;
  uint64_t n_trial_ = 0;
  int hold_left_ = kWarmUp;
  int hold_ = kLeastHold;
  int trial_tokens_ = 0;
  Half with_, without_;
  double missing_then_ = 0, missing_now_ = 0;  // per token: in the last trial, lately
};

}  // namespace odmoe
