#include "engine/prefetch_governor.h"

#include <algorithm>

namespace odmoe {
namespace {

constexpr double kLately = 1.0 / 32;  // weight of a token in missing_now_

}  // namespace

void PrefetchGovernor::Half::add(const Token& token) {
  tokens += 1;
  compute_us += static_cast<double>(token.us - token.stall_us);
  stall_us += static_cast<double>(token.stall_us);
  missing += static_cast<double>(token.missing);
}

double PrefetchGovernor::Half::time_us(double missing_per_token) const {
  const double wait_us = missing > 0 ? stall_us / missing : 0;
  return compute_us / tokens + wait_us * missing_per_token;
}

// Blocks go on, off, off, on, and again.
bool PrefetchGovernor::block_on() const {
  const int block = trial_tokens_ / kBlockTokens % 4;
  return block == 0 || block == 3;
}

void PrefetchGovernor::token_done(const Token& token) {
  missing_now_ += (static_cast<double>(token.missing) - missing_now_) * kLately;
  if (!in_trial()) {
    --hold_left_;
    // Not at once after a trial: what is lately takes its time to be so.
    const bool settled = hold_ - hold_left_ >= kLeastHold;
    const double more = std::max(missing_now_, 1.0) / std::max(missing_then_, 1.0);
    if (settled && (more > kChange || more < 1 / kChange)) {
      hold_ = kLeastHold;
      hold_left_ = 0;
    }
    return;
  }
  (block_on() ? with_ : without_).add(token);
  if (++trial_tokens_ == kTrialBlocks * kBlockTokens) end_trial();
}

void PrefetchGovernor::end_trial() {
  const double missing = (with_.missing + without_.missing) / (with_.tokens + without_.tokens);
  gain_ = without_.time_us(missing) / std::max(with_.time_us(missing), 1.0);
  const bool pays = gain_ > 1;
  hold_ = n_trial_ > 0 && pays == verdict_ ? std::min(2 * hold_, kMostHold) : kLeastHold;
  verdict_ = pays;
  hold_left_ = hold_;
  missing_then_ = missing_now_ = missing;
  ++n_trial_;
  trial_tokens_ = 0;
  with_ = without_ = {};
}

}  // namespace odmoe
