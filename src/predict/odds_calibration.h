// Turns marks that only order experts into the log-odds of their being chosen, by counting while it runs how
// often an expert with about such a mark was chosen; old observations fade.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace odmoe {

// Counts of how often something happened, in bins; what is read is the log-odds.  One owner.
class OddsBins {
 public:
  // `probability`: what every bin starts at, held by as much weight as `prior` observations.
  OddsBins(size_t n_bin, double probability, double prior);

  void observe(size_t bin, bool happened);
  float log_odds(size_t bin) const;
  double trials(size_t bin) const { return trials_[bin]; }
  double hits(size_t bin) const { return hits_[bin]; }
  size_t size() const { return trials_.size(); }

 private:
  std::vector<double> trials_, hits_;
};

// For a predictor that marks the experts of up to `lookahead` layers ahead.  Marks are compared by how far
// they are above or below a threshold, so that one table serves all layers.  One owner; allocates at creation
// alone.
class OddsCalibration {
 public:
  // Marks are told apart between -range and range.
  OddsCalibration(int32_t lookahead, int32_t n_expert, int32_t n_expert_used, float range);

  // Forgets the rows whose outcome has not come yet.
  void begin_sequence();

  // `rows` [n_expert, n_row], marks of layers 1 .. n_row ahead, become log-odds in the same order; their
  // outcome is awaited if `remember`.  At most once with `remember` between two calls of learn().
  void apply(std::span<float> rows, int32_t n_row, bool remember);

  // The next layer's router chose these.
  void learn(std::span<const int32_t> chosen);

  uint64_t bytes() const;

 private:
  static constexpr size_t kBins = 48;
  size_t bin_of(float mark) const;
  std::span<uint8_t> pending(size_t position, size_t row);
  void refresh(size_t row);

  size_t lookahead_, n_expert_;
  float range_;
  std::vector<OddsBins> bins_;      // per distance
  std::vector<float> curve_;        // [kBins, lookahead]: log-odds, never falling
  std::vector<uint8_t> pending_;    // bins, [n_expert, lookahead (row), lookahead (position)]
  std::vector<int32_t> n_pending_;  // rows remembered, per position in the ring
  std::vector<uint8_t> is_chosen_;  // [n_expert], scratch
  size_t position_ = 0;             // layers learnt so far
};

}  // namespace odmoe
