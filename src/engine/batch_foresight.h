// What a predictor says of tokens of several timelines that are evaluated layer by layer together: an expert
// is as likely to be wanted as it is that any of them wants it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/guess_worth.h"
#include "engine/hint_sink.h"
#include "engine/prefetch_governor.h"
#include "odmoe/stats.h"
#include "predict/predictor.h"
#include "store/expert_store.h"

namespace odmoe {

// One owner.  Allocates at creation alone.
//
//   begin_step(n)                                   whether anything is to be said of this step; if so:
//   begin_token(0), ... begin_token(n - 1), hint_first()
//   routed(0, layer 0), ... routed(n - 1, layer 0), layer_done(), and so on for each layer with experts
//   end_step()                                      in any case
class BatchForesight {
 public:
  // `predictor` remembers() nothing and outlives this; of what it says, `lookahead` layers ahead are listened
  // to, at most its own.  Steps have at most `max_tokens`.
  // `governor` begins with nothing and tries later: steps keep the drive busier than single tokens do.
  BatchForesight(Predictor& predictor, const PredictorShape& shape, int32_t lookahead, int32_t max_tokens,
                 const PrefetchGovernor& governor = PrefetchGovernor({.verdict = Prefetching::kOff}));

  // As Foresight's.
  void attach(ExpertStore& store, HintSink* hints = nullptr) {
    store_ = &store;
    sink_ = hints;
  }

  bool begin_step(size_t n_token, int64_t now_us);
  Status begin_token(size_t token, std::span<const float> embedding);
  void hint_first() { hint(0); }
  Status routed(size_t token, const RoutingState& state);
  void layer_done(size_t layer) { hint(layer + 1); }
  void end_step(int64_t now_us);

  uint64_t bytes() const;  // of memory
  // As Foresight's.
  std::span<const Stats::Predictor::Ahead> ahead() const { return ahead_; }

 private:
  GuessList& list(size_t token, size_t layer, size_t distance) {
    return lists_[(token * shape_.n_layer() + layer) * lookahead_ + distance - 1];
  }
  void take_rows(size_t token, size_t first, int32_t n_row);
  bool worth_asking(size_t first) const;
  void add_hints(size_t layer, double least);
  void hint(size_t first);

  Predictor& predictor_;
  PredictorShape shape_;
  size_t lookahead_;
  ExpertStore* store_ = nullptr;
  HintSink* sink_ = nullptr;
  PrefetchGovernor governor_;
  PrefetchDepth depth_ = PrefetchDepth::kFew;
  bool active_ = false;    // for this step
  uint64_t n_active_ = 0;  // steps for which it was
  size_t n_token_ = 0;     // of this step
  double busy_share_ = 0;  // of the time that steps take, the drive is at work; lately
  ExpertStoreStats before_;
  int64_t begin_us_ = 0;
  GuessWorth worth_;
  std::vector<GuessList> lists_;  // [lookahead, n_layer, max_tokens]
  std::vector<float> scores_;
  std::vector<double> nobody_;  // by expert: that no token wants it
  std::vector<int32_t> named_;  // experts that nobody_ is not 1 of
  std::vector<ExpertKey> hints_;
  std::vector<Stats::Predictor::Ahead> ahead_;
};

}  // namespace odmoe
