#include "predict/odds_calibration.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <utility>

namespace odmoe {
namespace {

// An observation counts half as much after so many later ones in its bin.
constexpr double kHalfLife = 100'000;
// Within a stretch where the curve is flat the order of the marks is kept by this much per unit.
constexpr float kTieMargin = 1e-4F;

// A little to either side keeps it finite where one outcome alone was seen.
float log_odds_of(double hits, double trials) {
  constexpr double kLittle = 0.02;
  return static_cast<float>(std::log((hits + kLittle) / (trials - hits + kLittle)));
}

}  // namespace

OddsBins::OddsBins(size_t n_bin, double probability, double prior)
    : trials_(n_bin, prior), hits_(n_bin, prior * probability) {}

void OddsBins::observe(size_t bin, bool happened) {
  static const double kFade = std::exp2(-1 / kHalfLife);
  trials_[bin] = trials_[bin] * kFade + 1;
  hits_[bin] = hits_[bin] * kFade + (happened ? 1 : 0);
}

float OddsBins::log_odds(size_t bin) const { return log_odds_of(hits_[bin], trials_[bin]); }

OddsCalibration::OddsCalibration(int32_t lookahead, int32_t n_expert, int32_t n_expert_used, float range)
    : lookahead_(static_cast<size_t>(lookahead)),
      n_expert_(static_cast<size_t>(n_expert)),
      range_(range),
      curve_(kBins * lookahead_),
      pending_(n_expert_ * lookahead_ * lookahead_),
      n_pending_(lookahead_),
      is_chosen_(n_expert_) {
  bins_.assign(lookahead_, OddsBins(kBins, static_cast<double>(n_expert_used) / n_expert, 0.1));
  for (size_t row = 0; row < lookahead_; ++row) refresh(row);
}

void OddsCalibration::begin_sequence() { std::ranges::fill(n_pending_, 0); }

size_t OddsCalibration::bin_of(float mark) const {
  const float at = (mark + range_) / (2 * range_) * static_cast<float>(kBins);
  return static_cast<size_t>(std::clamp(at, 0.0F, static_cast<float>(kBins - 1)));
}

std::span<uint8_t> OddsCalibration::pending(size_t position, size_t row) {
  return std::span(pending_).subspan((position % lookahead_ * lookahead_ + row) * n_expert_, n_expert_);
}

// More of a mark never means less: bins that say otherwise are taken together with their neighbours until
// none do (pool adjacent violators), so that a bin which has seen little has little to say.
void OddsCalibration::refresh(size_t row) {
  struct Pool {
    double trials, hits;
    size_t end;
  };
  std::array<Pool, kBins> pools;
  size_t n = 0;
  for (size_t bin = 0; bin < kBins; ++bin) {
    Pool pool{.trials = bins_[row].trials(bin), .hits = bins_[row].hits(bin), .end = bin + 1};
    while (n > 0 && pools[n - 1].hits * pool.trials >= pool.hits * pools[n - 1].trials) {
      --n;
      pool.trials += pools[n].trials;
      pool.hits += pools[n].hits;
    }
    pools[n++] = pool;
  }
  size_t bin = 0;
  for (const Pool& pool : std::span(pools).first(n)) {
    const float odds = log_odds_of(pool.hits, pool.trials);
    while (bin < pool.end) curve_[row * kBins + bin++] = odds;
  }
}

void OddsCalibration::apply(std::span<float> rows, int32_t n_row, bool remember) {
  const auto n = static_cast<size_t>(n_row);
  assert(n <= lookahead_);
  for (size_t row = 0; row < n; ++row) {
    const std::span<const float> curve(&curve_[row * kBins], kBins);
    const std::span<uint8_t> bins = pending(position_, row);
    for (size_t expert = 0; expert < n_expert_; ++expert) {
      float& mark = rows[row * n_expert_ + expert];
      if (remember) bins[expert] = static_cast<uint8_t>(bin_of(mark));
      // Between the middles of two bins on a straight line.
      const float at = std::clamp((mark + range_) / (2 * range_) * static_cast<float>(kBins) - 0.5F, 0.0F,
                                  static_cast<float>(kBins - 1));
      const auto low = std::min(static_cast<size_t>(at), kBins - 2);
      const float part = at - static_cast<float>(low);
      mark = curve[low] + part * (curve[low + 1] - curve[low]) + kTieMargin * mark;
    }
  }
  if (remember) n_pending_[position_ % lookahead_] = n_row;
}

void OddsCalibration::learn(std::span<const int32_t> chosen) {
  std::ranges::fill(is_chosen_, uint8_t{0});
  for (const int32_t expert : chosen) is_chosen_[static_cast<size_t>(expert)] = 1;
  // Row r of what was said r layers before the last one is about this layer.
  for (size_t row = 0; row < lookahead_ && row <= position_; ++row) {
    const size_t said = position_ - row;
    if (std::cmp_greater_equal(row, n_pending_[said % lookahead_])) continue;
    const std::span<const uint8_t> bins = pending(said, row);
    for (size_t expert = 0; expert < n_expert_; ++expert) {
      bins_[row].observe(bins[expert], is_chosen_[expert] != 0);
    }
    refresh(row);
  }
  ++position_;
  n_pending_[position_ % lookahead_] = 0;
}

uint64_t OddsCalibration::bytes() const {
  return lookahead_ * kBins * (2 * sizeof(double) + sizeof(float)) + pending_.size() + is_chosen_.size();
}

}  // namespace odmoe
