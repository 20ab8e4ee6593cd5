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

bool PrefetchGovernor::block_on() const {
  return std::popcount(tried_tokens_ / static_cast<uint64_t>(kBlockTokens)) % 2 == 0;
}

void PrefetchGovernor::token_done(const Token& token) {
  missing_now_ += (static_cast<double>(token.missing) - missing_now_) * kLately;
  if (in_trial()) {
    try_token(token);
    return;
  }
  if (--hold_left_ == 0) {
    begin_trial(0.5);
    return;
  }
  // Not at once after a trial: what is lately takes its time to be so.
  const bool settled = n_trial_ > 0 && hold_ - hold_left_ >= kLeastTrial;
  const double more = std::max(missing_now_, 1.0) / std::max(missing_then_, 1.0);
  if (settled && (more > kChange || more < 1 / kChange)) {
    hold_ = 0;  // whatever is found holds as if it were for the first time
    begin_trial(0);
  }
}

void PrefetchGovernor::begin_trial(double weight_of_before) {
  hold_left_ = 0;
  trial_tokens_ = 0;
  trial_us_ = 0;
  blocks_with_ = blocks_without_ = {};
  for (Half* half : {&with_, &without_}) {
    half->tokens *= weight_of_before;
    half->us *= weight_of_before;
    half->missing *= weight_of_before;
  }
}

void PrefetchGovernor::try_token(const Token& token) {
  const bool with = block_on();
  Half& half = with ? with_ : without_;
  half.tokens += 1;
  half.us += static_cast<double>(token.us);
  half.missing += static_cast<double>(token.missing);
  ++tried_tokens_;
  ++trial_tokens_;
  trial_us_ += token.us;
  block_us_ += token.us;
  if (trial_tokens_ % kBlockTokens != 0) return;
  (with ? blocks_with_ : blocks_without_).add(static_cast<double>(std::exchange(block_us_, 0)));
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
  return std::sqrt(blocks_with_.variance_of_mean() + blocks_without_.variance_of_mean());
}

bool PrefetchGovernor::is_plain() const {
  if (blocks_with_.n < 4 || blocks_without_.n < 4) return false;
  const double faster = blocks_without_.us / blocks_without_.n - blocks_with_.us / blocks_with_.n;
  return faster > kPlain * standard_error() || -faster > kPlainLoss * standard_error();
}

void PrefetchGovernor::end_trial() {
  const double us_with = with_.us / with_.tokens, us_without = without_.us / without_.tokens;
  gain_ = us_without / std::max(us_with, 1.0);
  // Of a token's time; what earlier trials add makes it surer.
  const double error = standard_error() / kBlockTokens * std::sqrt(trial_tokens_ / 2.0 / with_.tokens);
  const double faster = us_without - us_with;
  const bool pays = faster > kLikely * error + kUnseen * us_without;
  const double evidence = error > 0 ? (faster / error) * (faster / error) : kSureHold;
  // Its slower half is half of the trial.
  const double lost = std::abs(faster) / std::max(std::min(us_with, us_without), 1.0) / 2;
  const double trials =
      std::min<double>(std::max(std::clamp<double>(evidence, 1, kSureHold), lost / kPrice), kMostHold);
  const auto least = static_cast<int>(trials * trial_tokens_);
  const bool again = n_trial_ > 0 && pays == verdict_;
  hold_ = again ? std::clamp(2 * hold_, least, kMostHold * trial_tokens_) : least;
  hold_left_ = hold_;
  verdict_ = pays;
  missing_then_ = (with_.missing + without_.missing) / (with_.tokens + without_.tokens);
  missing_now_ = missing_then_;
  ++n_trial_;
}

}  // namespace odmoe
