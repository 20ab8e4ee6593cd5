// Whether prefetching pays, found out by doing without it now and then.
//
// Trials: a few tokens with, a few without, in turns that follow the Thue-Morse sequence (on off off on, off
// on on off, ...), so that neither a drift nor a period of the text hits one half alone.  What counts is how
// long a token takes, whatever the reason: waits that were hidden, guesses that had to be computed, reads
// that took the drive, the memory or a core from others, and experts that had to go for a wrong guess. Tokens
// differ far more than what is to be measured, so a trial has many of them where they are fast, unless it is
// plain sooner, and the ones before it count as well, each half as much as the next.
//
// In doubt prefetching is off, which loses nothing: it is on where its tokens are faster by more than half a
// standard error and what a trial cannot see.  A verdict holds for so long that what its trial lost is a
// small share of the time, longer where it is sure, and longer each time that it is found again; all end when
// the number of missing experts has changed much.
#pragma once

#include <cstdint>

namespace odmoe {

// Deterministic: the same calls give the same answers.  One owner.
class PrefetchGovernor {
 public:
  static constexpr int kWarmUp = 16;      // tokens before the first trial: they pay for things done once
  static constexpr int kBlockTokens = 8;  // with or without, before it may be the other's turn
  static constexpr int kLeastTrial = 32;  // tokens of a trial, in whole turns of four blocks;
  static constexpr int kMostTrial = 256;  // no more than these, and no more than
  static constexpr int64_t kTrialUs = 500'000;  // what has been seen after so long
  // A verdict holds for its trial's tokens times the square of the standard errors between the halves, once
  // at least and kSureHold times at most, or, if that is longer, until what the trial's slower half lost is
  // kPrice of the tokens' time; one that is found again for twice as long as before.  None for more than
  // kMostHold times.
  static constexpr int kSureHold = 4, kMostHold = 64;
  static constexpr double kPrice = 0.01;
  // A trial also ends where the halves' blocks, four each at least, differ by so many standard errors: fewer
  // where prefetching is behind, since to be wrong costs less then.
  static constexpr double kPlain = 3, kPlainLoss = 2;
  // For it to be on after a trial this many are enough, beyond what a trial cannot see: experts that had to
  // go for a wrong guess are missing in the turns without prefetching, too, which makes the difference 2 to 5
  // % of a token too large on demo-kimi (docs/shadow-model.md).
  static constexpr double kLikely = 0.5;
  static constexpr double kUnseen = 0.02;
  static constexpr double kChange = 2;  // how much more or fewer missing experts are another situation

  struct Token {
    int64_t us = 0;        // what the token took
    uint64_t missing = 0;  // its experts that were not in memory, or only because of a prefetch
  };

  // Whether the token that comes is to be prefetched for.
  bool on() const { return in_trial() ? block_on() : verdict_; }

  // What that token took.
  void token_done(const Token& token);

  bool verdict() const { return verdict_; }
  // Tokens per second with prefetching over those without, by the trials; 0 before the first has ended.
  double gain() const { return gain_; }
  uint64_t n_trial() const { return n_trial_; }  // that have ended

 private:
  struct Half {
    double tokens = 0, us = 0, missing = 0;
  };
  struct Blocks {  // of one half in this trial
    double n = 0, us = 0, squares = 0;
    void add(double block_us);
    double variance_of_mean() const;
  };
  bool in_trial() const { return hold_left_ == 0; }
  bool block_on() const;
  void begin_trial(double weight_of_before);
  void try_token(const Token& token);
  double standard_error() const;  // of the difference between the halves' blocks in this trial
  bool is_plain() const;
  void end_trial();

  bool verdict_ = true;  // a guess, until the first trial has ended
  double gain_ = 0;
  uint64_t n_trial_ = 0;
  int hold_left_ = kWarmUp;
  int hold_ = kWarmUp;
  uint64_t tried_tokens_ = 0;  // in all trials
  int trial_tokens_ = 0;
  int64_t trial_us_ = 0;
  int64_t block_us_ = 0;
  Half with_, without_;
  Blocks blocks_with_, blocks_without_;
  double missing_then_ = 0, missing_now_ = 0;  // per token: in the trials, lately
};

}  // namespace odmoe
