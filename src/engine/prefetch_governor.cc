#include "engine/prefetch_governor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace odmoe {
namespace {

constexpr double kLately = 1.0 / 32;  // weight of a token in missing_now_
constexpr int kTurnTokens = 4 * PrefetchGovernor::kBlockTokens;

}  // namespace

PrefetchGovernor::PrefetchGovernor(const Experience& earlier)
    : verdict_(earlier.verdict),
      rival_(earlier.verdict == Prefetching::kOff ? Prefetching::kFew : Prefetching::kOff),
      gains_(earlier.gains),
      hold_(kWarmUp + kSettle + std::clamp(earlier.hold, 0, kMostHold * kMostTrial)),
      missing_then_(earlier.missing),
      missing_now_(earlier.missing),
      trusts_(true) {
  hold_left_ = hold_;
}

std::optional<PrefetchGovernor::Experience> PrefetchGovernor::experience() const {
  if (n_trial_ == 0) return std::nullopt;
  return Experience{.verdict = verdict_, .missing = missing_then_, .hold = hold_, .gains = gains_};
}

Prefetching PrefetchGovernor::now() const {
  if (!in_trial()) return verdict_;
  return turn_of_more() ? more() : less();
}

bool PrefetchGovernor::turn_of_more() const {
  return std::popcount(tried_tokens_ / static_cast<uint64_t>(kBlockTokens)) % 2 == 0;
}

void PrefetchGovernor::token_done(const Token& token) {
  missing_now_ += (static_cast<double>(token.missing) - missing_now_) * kLately;
  if (in_trial()) {
    try_token(token);
    return;
  }
  if (--hold_left_ == 0) {
    begin_trial();
    return;
  }
  // Not at once after a trial: what is lately takes its time to be so.
  const bool settled =
      trusts_ ? hold_ - hold_left_ >= kWarmUp + kSettle : n_trial_ > 0 && hold_ - hold_left_ >= kLeastTrial;
  const double change = std::max(missing_now_, 1.0) / std::max(missing_then_, 1.0);
  if (settled && (change > kChange || change < 1 / kChange)) {
    forget();
    begin_trial();
  }
}

void PrefetchGovernor::begin_trial() {
  hold_left_ = 0;
  trusts_ = false;
  trial_tokens_ = 0;
  trial_us_ = 0;
  blocks_more_ = blocks_less_ = {};
  for (Half* half : {&pair().more, &pair().less}) {
    half->tokens /= 2;
    half->us /= 2;
    half->missing /= 2;
  }
}

// Whatever is found now is found for the first time.
void PrefetchGovernor::forget() {
  pairs_ = {};
  n_withstood_ = 0;
  // Whether it pays at all comes first.
  rival_ = verdict_ == Prefetching::kOff ? Prefetching::kFew : Prefetching::kOff;
}

void PrefetchGovernor::try_token(const Token& token) {
  const bool with_more = turn_of_more();
  Half& half = with_more ? pair().more : pair().less;
  half.tokens += 1;
  half.us += static_cast<double>(token.us);
  half.missing += static_cast<double>(token.missing);
  ++tried_tokens_;
  ++trial_tokens_;
  trial_us_ += token.us;
  block_us_ += token.us;
  if (trial_tokens_ % kBlockTokens != 0) return;
  (with_more ? blocks_more_ : blocks_less_).add(static_cast<double>(std::exchange(block_us_, 0)));
  const bool enough = trial_tokens_ >= kMostTrial || (trial_tokens_ >= kLeastTrial && trial_us_ >= kTrialUs);
  if (trial_tokens_ % kTurnTokens == 0 && (enough || is_plain())) end_trial();
}

void PrefetchGovernor::Blocks::add(double block_us) {
  n += 1;
  us += block_us;
  squares += block_us * block_us;
}

double PrefetchGovernor::Blocks::variance_of_mean() const {
  const double mean = us / n;
  return std::max(squares / n - mean * mean, 0.0) / (n - 1);
}

double PrefetchGovernor::standard_error() const {
  return std::sqrt(blocks_more_.variance_of_mean() + blocks_less_.variance_of_mean());
}

bool PrefetchGovernor::is_plain() const {
  if (blocks_more_.n < 4 || blocks_less_.n < 4) return false;
  const double faster = blocks_less_.us / blocks_less_.n - blocks_more_.us / blocks_more_.n;
  return faster > kPlain * standard_error() || -faster > kPlainLoss * standard_error();
}

void PrefetchGovernor::end_trial() {
  const auto& [with_more, with_less] = pair();
  const double us_more = with_more.us / with_more.tokens, us_less = with_less.us / with_less.tokens;
  // Of a token's time; what earlier trials add makes it surer.
  const double error = standard_error() / kBlockTokens * std::sqrt(trial_tokens_ / 2.0 / with_more.tokens);
  const double faster = us_less - us_more;
  const double evidence = error > 0 ? (faster / error) * (faster / error) : kSureHold;
  // Its slower half is half of the trial.
  const double lost = std::abs(faster) / std::max(std::min(us_more, us_less), 1.0) / 2;
  const double trials =
      std::min<double>(std::max(std::clamp<double>(evidence, 1, kSureHold), lost / kPrice), kMostHold);
  if (less() == Prefetching::kOff) {
    gains_[more() == Prefetching::kMany ? 1 : 0] = us_less / std::max(us_more, 1.0);
  }
  missing_then_ = (with_more.missing + with_less.missing) / (with_more.tokens + with_less.tokens);
  missing_now_ = missing_then_;
  ++n_trial_;
  const double unseen = less() == Prefetching::kOff ? kUnseen * us_less : 0;
  judge(faster > kLikely * error + unseen);
  const auto least = static_cast<int>(trials * trial_tokens_);
  hold_ = n_withstood_ > 2 ? std::clamp(2 * hold_, least, kMostHold * trial_tokens_) : least;
  hold_left_ = hold_;
}

// Who wins is the verdict, and who was not there the next rival.
void PrefetchGovernor::judge(bool more_pays) {
  const Prefetching winner = more_pays ? more() : less();
  const auto third = static_cast<Prefetching>(3 - static_cast<int>(less()) - static_cast<int>(more()));
  n_withstood_ = winner == verdict_ ? n_withstood_ + 1 : 0;
  verdict_ = winner;
  rival_ = third;
}

}  // namespace odmoe
