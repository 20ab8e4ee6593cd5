// Whether prefetching pays, and how much of it at a time, found out by trying.
//
// Trials: a few tokens one way, a few another, in turns that follow the Thue-Morse sequence (on off off on,
// off on on off, ...), so that neither a drift nor a period of the text hits one half alone.  What counts is
// how long a token takes, whatever the reason: waits that were hidden, guesses that had to be computed, reads
// that took the drive, the memory or a core from others, and experts that had to go for a wrong guess. Tokens
// differ far more than what is to be measured, so a trial has many of them where they are fast, unless it is
// plain sooner, and the ones before it between the same two count as well, each half as much as the next.
//
// The verdict is tried in turns against both others.  In doubt less is read early, or nothing, which loses
// nothing.  A verdict holds for so long that what its trial lost is a small share of the time, longer where
// it is sure, and longer while it withstands; all end when the number of missing experts has changed much.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace odmoe {

// How much is read early: nothing, or with few reads in flight at a time, or with many, and less likely ones.
enum class Prefetching : uint8_t { kOff, kFew, kMany };

// Deterministic: the same calls give the same answers.  One owner.
class PrefetchGovernor {
 public:
  static constexpr int kWarmUp = 16;      // tokens before the first trial: they pay for things done once
  static constexpr int kBlockTokens = 8;  // one way, before it may be the other's turn
  static constexpr int kLeastTrial = 32;  // tokens of a trial, in whole turns of four blocks;
  static constexpr int kMostTrial = 256;  // no more than these, and no more than
  static constexpr int64_t kTrialUs = 500'000;  // what has been seen after so long
  // A verdict holds for its trial's tokens times the square of the standard errors between the halves, once
  // at least and kSureHold times at most, or, if that is longer, until what the trial's slower half lost is
  // kPrice of the tokens' time; one that has withstood both others for twice as long as before.  None for
  // more than kMostHold times.
  static constexpr int kSureHold = 4, kMostHold = 64;
  static constexpr double kPrice = 0.01;
  // A trial also ends where the halves' blocks, four each at least, differ by so many standard errors: fewer
  // where reading more is behind, since to be wrong costs less then.
  static constexpr double kPlain = 3, kPlainLoss = 2;
  // What reads more wins where it is ahead by so many standard errors, and nothing is beaten only by this
  // share of a token more: experts that had to go for a wrong guess are missing in the turns without
  // prefetching, too, which trials cannot see.  On some machines it is more than that; to ask for as much
  // would give up gains on all others (docs/shadow-model.md).
  static constexpr double kLikely = 0.5;
  static constexpr double kUnseen = 0.02;
  static constexpr double kChange = 2;  // how much more or fewer missing experts are another situation

  struct Token {
    int64_t us = 0;        // what the token took
    uint64_t missing = 0;  // its experts that were not in memory, or only because of a prefetch
  };

  // What is worth knowing of a run to the next one.
  struct Experience {
    Prefetching verdict = Prefetching::kFew;
    double missing = 0;             // experts per token, when it was last tried
    int hold = 0;                   // tokens for which it was to hold
    std::array<double, 2> gains{};  // of kFew and kMany, 0 where that is not known
  };
  // Trusts an earlier run: its verdict holds for as long as it was to hold then, unless other numbers of
  // experts are missing once the arena is warm.
  static constexpr int kSettle = 128;  // tokens that an arena is given to become warm
  PrefetchGovernor() = default;
  explicit PrefetchGovernor(const Experience& earlier);
  // Nothing before a trial has ended.
  std::optional<Experience> experience() const;

  // How the token that comes is to be prefetched for.
  Prefetching now() const;

  // What that token took.
  void token_done(const Token& token);

  Prefetching verdict() const { return verdict_; }
  // Tokens per second with prefetching over those without, by the trials: with many reads where those are the
  // verdict, else with few; 0 while that was not tried against none.
  double gain() const { return gains_[verdict_ == Prefetching::kMany ? 1 : 0]; }
  uint64_t n_trial() const { return n_trial_; }  // that have ended

 private:
  struct Half {
    double tokens = 0, us = 0, missing = 0;
  };
  // What trials between two have shown.
  struct Pair {
    Half more, less;
  };
  struct Blocks {  // of one half in this trial
    double n = 0, us = 0, squares = 0;
    void add(double block_us);
    double variance_of_mean() const;
  };
  bool in_trial() const { return hold_left_ == 0; }
  bool turn_of_more() const;
  Prefetching less() const { return verdict_ < rival_ ? verdict_ : rival_; }
  Prefetching more() const { return verdict_ < rival_ ? rival_ : verdict_; }
  Pair& pair() { return pairs_[static_cast<size_t>(less()) + static_cast<size_t>(more()) - 1]; }
  void begin_trial();
  void forget();
  void try_token(const Token& token);
  double standard_error() const;  // of the difference between the halves' blocks in this trial
  bool is_plain() const;
  void end_trial();
  void judge(bool more_pays);

  Prefetching verdict_ = Prefetching::kFew;  // a guess, until the first trial has ended
  Prefetching rival_ = Prefetching::kOff;    // of the trial under way, or the next
  int n_withstood_ = 0;                      // trials in a row that left the verdict as it was
  std::array<double, 2> gains_{};            // with few reads, with many
  uint64_t n_trial_ = 0;
  int hold_left_ = kWarmUp;
  int hold_ = kWarmUp;
  uint64_t tried_tokens_ = 0;  // in all trials
  int trial_tokens_ = 0;
  int64_t trial_us_ = 0;
  int64_t block_us_ = 0;
  std::array<Pair, 3> pairs_;
  Blocks blocks_more_, blocks_less_;
  double missing_then_ = 0, missing_now_ = 0;  // per token: in the last trial, lately
  bool trusts_ = false;                        // an earlier run, until a trial of its own has begun
};

}  // namespace odmoe
