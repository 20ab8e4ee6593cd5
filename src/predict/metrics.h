// How good guesses of experts are, by layer and by how far ahead they were made.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace odmoe {

// Of one layer and distance, or of several together.  A routing is one token in one layer.
struct PredictionCell {
  static constexpr std::array<int32_t, 8> kHints = {1, 2, 4, 8, 12, 16, 24, 32};
  static constexpr size_t kProbabilityBins = 10;

  uint64_t routings = 0;
  uint64_t n_used = 0;             // experts that each of them chose
  std::vector<int32_t> ks;         // 1, 4 and 8 as far as below n_used, and n_used
  std::vector<uint64_t> recalled;  // per k: experts that are among the first k of the guess and of the router
  // Per kHints: experts among so many hints that were chosen, and the router weight that they had.
  std::array<uint64_t, kHints.size()> useful = {};
  std::array<double, kHints.size()> weight_useful = {};
  double weight_covered = 0, weight = 0;  // by the first n_used of the guess, and all of it
  // Experts by the probability that the guess gave them, in tenths; those really chosen; and the sum of the
  // probabilities.
  struct Probability {
    uint64_t experts = 0, chosen = 0;
    double sum = 0;
  };
  std::array<Probability, kProbabilityBins> probabilities = {};

  // Share of the router's k first that the first k of the guess have: ks[i] is k.
  double recall(size_t i) const;
  // The same for k = n_used: share of the experts chosen.
  double recall() const;
  // Share of the router's weight that the first n_used of the guess have.
  double weight_share() const;
  // Of the first kHints[i] hints, the share that was chosen; and the share of what was chosen that they have.
  double precision(size_t i) const;
  double coverage(size_t i) const;
  double weight_coverage(size_t i) const;
  // Expected calibration error: mean over experts of |share chosen - mean probability| of their bin.  0 where
  // no probabilities were given.
  double calibration_error() const;

  void merge(const PredictionCell& other);
};

// One owner.
class PredictionMetrics {
 public:
  PredictionMetrics(size_t n_layer, int32_t lookahead, int32_t n_expert, int32_t n_expert_used);

  // Layer index `layer` was guessed `distance` layers (1 .. lookahead) before; `scores` [n_expert] of the
  // guess, log-odds if `calibrated`; `chosen` and `weights` [n_expert_used] of its router, first rank first.
  void add(size_t layer, int32_t distance, std::span<const float> scores, bool calibrated,
           std::span<const int32_t> chosen, std::span<const float> weights);

  size_t n_layer() const { return n_layer_; }
  int32_t lookahead() const { return lookahead_; }
  const PredictionCell& cell(size_t layer, int32_t distance) const;
  // Of all layers from `first_layer` on: those that every predictor can guess from `distance` layers before
  // begin at `distance`.
  PredictionCell total(int32_t distance, size_t first_layer = 0) const;

 private:
  size_t n_layer_;
  int32_t lookahead_;
  std::vector<PredictionCell> cells_;  // [lookahead, n_layer]
  std::vector<int32_t> best_;          // scratch
  std::vector<int32_t> rank_;          // [n_expert] scratch: place in best_, or n_expert
  std::vector<uint8_t> is_chosen_;     // [n_expert] scratch
};

}  // namespace odmoe
