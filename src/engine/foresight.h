// What a predictor says, and what is made of it: lists of experts for the layers to come, each rank of them
// worth what it has turned out to be worth, and hints for those that are worth a read.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/prefetch_governor.h"
#include "odmoe/stats.h"
#include "predict/predictor.h"
#include "predict/rank_calibration.h"
#include "store/expert_store.h"

namespace odmoe {

// One owner.  Allocates at creation alone.
class Foresight {
 public:
  // `shape` is the predictor's; of what it says, `lookahead` layers ahead are listened to, at most its own.
  Foresight(std::unique_ptr<Predictor> predictor, PredictorShape shape, int32_t lookahead);

  const Predictor& predictor() const { return *predictor_; }

  // Must be called once before the rest; the store must outlive this.
  void attach(ExpertStore& store);

  // For one token after the other, and within it for each layer with experts in order.  Between tokens that
  // do not follow on each other: begin_sequence().
  void begin_sequence();
  Status begin_token(std::span<const float> embedding, int64_t now_us);
  // A layer's router has spoken, and what it wants has been leased.
  Status routed(const RoutingState& state);
  void end_token(int64_t now_us);

  // How good the guesses were, by how far they were ahead.
  std::span<const Stats::Predictor::Ahead> ahead() const { return ahead_; }
  const PrefetchGovernor& governor() const { return governor_; }

 private:
  // What was said of one layer's experts, best first, from one distance.
  struct List {
    bool made = false;
    std::vector<int32_t> experts;
    std::vector<uint8_t> absent;  // by rank: the expert was not in memory when this was said
  };
  // How often absent experts of a layer were wanted, and how often that was to be expected of their ranks.
  struct LayerWorth {
    double hits = 0, expected = 0;
  };
  List& list(size_t layer, size_t distance) { return lists_[layer * lookahead_ + distance - 1]; }
  void take_rows(size_t first_target, int32_t n_row);
  void judge(const RoutingState& state);
  void hint(size_t first_target);
  double probability(size_t target, size_t distance, size_t rank) const;
  double least_probability() const;
  bool worth_asking(size_t first_target) const;

  std::unique_ptr<Predictor> predictor_;
  PredictorShape shape_;
  size_t lookahead_;
  ExpertStore* store_ = nullptr;
  PrefetchGovernor governor_;
  bool active_ = false;    // for this token
  uint64_t n_active_ = 0;  // tokens for which it was
  ExpertStoreStats before_;
  int64_t begin_us_ = 0;
  double busy_share_ = 0;  // of the time that tokens take, the drive is at work; lately
  std::vector<float> scores_;
  std::vector<List> lists_;  // [lookahead, n_layer]
  // Of experts that are not in memory alone: the others are right more often, and nothing is to be gained.
  RankCalibration worth_;                // of all layers
  std::vector<LayerWorth> layer_worth_;  // [lookahead, n_layer]
  std::vector<ExpertKey> hints_;
  std::vector<Stats::Predictor::Ahead> ahead_;
};

}  // namespace odmoe
