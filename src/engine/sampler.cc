#include "engine/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>

namespace odmoe {
namespace {

constexpr int32_t kMaxPenaltyWindow = 1 << 20;  // beyond any context; the window is allocated up front
constexpr size_t kFirstNucleus = 64;            // candidates sorted at first when only top-p bounds them
constexpr float kLowest = -std::numeric_limits<float>::infinity();

// 1/13! to 1/0!: the next term of the exponential series is below 2^-56 for the arguments it is used with.
constexpr auto kInverseFactorials = [] {
  std::array<double, 14> inverse{};
  double factorial = 1;
  for (size_t i = 0; i < inverse.size(); ++i) {
    if (i > 0) factorial *= static_cast<double>(i);
    inverse[inverse.size() - 1 - i] = 1 / factorial;
  }
  return inverse;
}();

// e^x for x <= 0.  libm's exp differs in the last bit between systems, and a draw near a boundary would then
// give another token; this uses only operations that IEEE 754 rounds in one way (the build forbids fused ones
// here).
double exp_nonpositive(double x) {
  constexpr double kSmallest = -700;  // e^-700 = 1e-304: no candidate as unlikely is ever drawn
  if (!(x > kSmallest)) return 0;
  constexpr double kLog2e = 1.4426950408889634074;
  constexpr double kLn2High =
      6.93147180369123816490e-01;  // its last 21 bits are 0, so that n * kLn2High is exact
  constexpr double kLn2Low = 1.90821492927058770002e-10;
  const double n = std::floor(x * kLog2e + 0.5);
  const double r = (x - n * kLn2High) - n * kLn2Low;  // |r| <= ln(2) / 2
  double sum = 0;
  for (const double coefficient : kInverseFactorials) sum = sum * r + coefficient;
  const auto exponent = static_cast<uint64_t>(static_cast<int64_t>(n) + 1023);
  return sum * std::bit_cast<double>(exponent << 52);
}

Status check(bool holds, std::string_view option, std::string_view range, double value) {
  if (holds) return {};
  return fail(ErrorKind::kUsage, "{} must be {}, not {}", option, range, value);
}

}  // namespace

Status SamplingOptions::validate() const {
  ODMOE_RETURN_IF_ERROR(check(std::isfinite(temperature) && temperature >= 0, "temperature",
                              "0 (greedy) or more", temperature));
  ODMOE_RETURN_IF_ERROR(check(top_k >= 0, "top-k", "0 (off) or more", top_k));
  ODMOE_RETURN_IF_ERROR(check(top_p >= 0 && top_p <= 1, "top-p", "from 0 to 1 (off)", top_p));
  ODMOE_RETURN_IF_ERROR(check(min_p >= 0 && min_p <= 1, "min-p", "from 0 (off) to 1", min_p));
  ODMOE_RETURN_IF_ERROR(check(std::isfinite(repetition_penalty) && repetition_penalty > 0,
                              "repetition penalty", "more than 0 (1: off)", repetition_penalty));
  ODMOE_RETURN_IF_ERROR(
      check(std::isfinite(presence_penalty), "presence penalty", "a finite number", presence_penalty));
  ODMOE_RETURN_IF_ERROR(
      check(std::isfinite(frequency_penalty), "frequency penalty", "a finite number", frequency_penalty));
  return check(penalty_last_n >= -1 && penalty_last_n <= kMaxPenaltyWindow, "penalty window",
               "-1 (all), 0 (none) or up to 1048576 tokens", penalty_last_n);
}

Sampler::Sampler(const SamplingOptions& options, int32_t n_vocab)
    : options_(options),
      n_vocab_(static_cast<size_t>(n_vocab)),
      top_k_(options.top_k == 0 ? n_vocab_ : std::min(static_cast<size_t>(options.top_k), n_vocab_)),
      penalties_(options.penalty_last_n != 0 &&
                 (options.repetition_penalty != 1 || options.presence_penalty != 0 ||
                  options.frequency_penalty != 0)),
      random_(options.seed) {
  assert(options.validate().has_value() && n_vocab > 0);
  if (options_.temperature > 0) {
    // select_top_k() lets twice as many in as it keeps, so that it need not choose at every one.
    candidates_.reserve(std::min(top_k_ * 2, n_vocab_));
    weights_.reserve(top_k_);
  }
  if (penalties_) {
    counts_.resize(n_vocab_);
    if (options_.penalty_last_n > 0) window_.resize(static_cast<size_t>(options_.penalty_last_n));
  }
}

void Sampler::accept(Token token) {
  if (!penalties_ || token < 0 || static_cast<size_t>(token) >= n_vocab_) return;
  int32_t& count = counts_[static_cast<size_t>(token)];
  if (count < std::numeric_limits<int32_t>::max()) ++count;
  if (window_.empty()) return;
  if (window_used_ == window_.size()) {
    --counts_[static_cast<size_t>(window_[window_at_])];
  } else {
    ++window_used_;
  }
  window_[window_at_] = token;
  window_at_ = (window_at_ + 1) % window_.size();
}

// The lower id wins a tie, so that the order is total and the same everywhere.
bool Sampler::better(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

float Sampler::adjusted(float logit, size_t token) const {
  if (!(logit > kLowest)) return kLowest;  // NaN too
  constexpr float kMax = std::numeric_limits<float>::max();
  if (!penalties_ || counts_[token] == 0) return std::min(logit, kMax);
  double value = std::min(logit, kMax);
  value = value > 0 ? value / options_.repetition_penalty : value * options_.repetition_penalty;
  value -= double{options_.presence_penalty} + double{options_.frequency_penalty} * counts_[token];
  return static_cast<float>(std::clamp<double>(value, -kMax, kMax));
}

std::optional<Token> Sampler::likeliest(std::span<const float> logits) const {
  std::optional<Token> best;
  float best_logit = kLowest;
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = adjusted(logits[i], i);
    if (logit > best_logit) {
      best = static_cast<Token>(i);
      best_logit = logit;
    }
  }
  return best;
}

void Sampler::select_top_k(std::span<const float> logits) {
  // One pass: what is not better than the k-th best so far is passed over; when twice k have gathered, the
  // better half stays.  Each of these choices is linear, so the whole is.
  candidates_.clear();
  float threshold = kLowest;
  const auto keep_best = [&] {
    const auto kth = candidates_.begin() + static_cast<ptrdiff_t>(top_k_ - 1);
    std::nth_element(candidates_.begin(), kth, candidates_.end(), better);
    threshold = kth->logit;
    candidates_.resize(top_k_);
  };
  for (size_t i = 0; i < logits.size(); ++i) {
    const float logit = adjusted(logits[i], i);
    if (!(logit > threshold)) continue;  // of equals the earlier id stays
    if (candidates_.size() == candidates_.capacity()) keep_best();
    if (logit > threshold) candidates_.push_back({.logit = logit, .token = static_cast<Token>(i)});
  }
  n_sorted_ = 0;
  if (top_k_ == n_vocab_) return;
  if (candidates_.size() > top_k_) keep_best();
  std::ranges::sort(candidates_, better);
  n_sorted_ = candidates_.size();
}

void Sampler::keep_top_p() {
  const double best = std::ranges::min_element(candidates_, better)->logit;
  const auto weight = [&](const Candidate& c) { return exp_nonpositive(c.logit - best); };
  double total = 0;
  for (const Candidate& c : candidates_) total += weight(c);

  // The nucleus is small as a rule: sort no more than it needs.
  const double wanted = double{options_.top_p} * total;
  double sum = 0;
  size_t kept = 0;
  do {
    if (kept == n_sorted_) {
      const size_t sorted = std::min(candidates_.size(), std::max(kFirstNucleus, n_sorted_ * 4));
      const auto from = candidates_.begin() + static_cast<ptrdiff_t>(n_sorted_);
      const auto to = candidates_.begin() + static_cast<ptrdiff_t>(sorted);
      std::nth_element(from, to - 1, candidates_.end(), better);
      std::sort(from, to, better);
      n_sorted_ = sorted;
    }
    sum += weight(candidates_[kept++]);
  } while (kept < candidates_.size() && sum < wanted);
  candidates_.resize(kept);
}

void Sampler::keep_min_p() {
  const double best = std::ranges::min_element(candidates_, better)->logit;
  std::erase_if(candidates_,
                [&](const Candidate& c) { return exp_nonpositive(c.logit - best) < options_.min_p; });
}

Token Sampler::draw() {
  const double best = std::ranges::min_element(candidates_, better)->logit;
  double total = 0;
  weights_.clear();
  for (const Candidate& c : candidates_) {
    weights_.push_back(exp_nonpositive((c.logit - best) / options_.temperature));
    total += weights_.back();
  }
  // 53 random bits as a number in [0, 1).  The distributions of the standard library differ between
  // libraries.
  const double target = static_cast<double>(random_() >> 11) * 0x1p-53 * total;
  double sum = 0;
  size_t last = 0;  // with a weight; rounding may leave the sum just short of the target
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0) continue;
    sum += weights_[i];
    last = i;
    if (sum > target) break;
  }
  return candidates_[last].token;
}

std::optional<Token> Sampler::sample(std::span<const float> logits) {
  assert(logits.size() == n_vocab_);
  if (options_.temperature == 0) return likeliest(logits);
  select_top_k(logits);
  if (candidates_.empty()) return std::nullopt;
  if (options_.top_p < 1) keep_top_p();
  if (options_.min_p > 0) keep_min_p();
  return draw();
}

}  // namespace odmoe
