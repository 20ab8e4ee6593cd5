// What a predictor says, and what is made of it: lists of experts for the layers to come, each rank of them
// worth what it has turned out to be worth, and hints for those that are worth a read.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "engine/guess_worth.h"
#include "engine/hint_sink.h"
#include "engine/prediction_thread.h"
#include "engine/prefetch_governor.h"
#include "odmoe/stats.h"
#include "predict/predictor.h"
#include "store/expert_store.h"

namespace odmoe {

// One owner.  Allocates at creation alone.
//
// Layers are counted in steps, over all tokens: step s is layer index s % n_layer.
class Foresight {
 public:
  // `shape` is the predictor's; of what it says, `lookahead` layers ahead are listened to, at most its own.
  // On a thread of its own the predictor is asked while the caller goes on; what it says too late for a layer
  // is not heard there.
  enum class Ask : uint8_t { kHere, kOnItsOwnThread };
  Foresight(std::unique_ptr<Predictor> predictor, PredictorShape shape, int32_t lookahead,
            Ask ask = Ask::kHere);

  const Predictor& predictor() const { return *predictor_; }

  // Must be called once before the rest; the store must outlive this, and so must what hints go to, where
  // that is not the store alone.
  void attach(ExpertStore& store, HintSink* hints = nullptr);

  // For one token after the other, and within it for each layer with experts in order.  Between tokens that
  // do not follow on each other: begin_sequence().
  void begin_sequence();
  Status begin_token(std::span<const float> embedding, int64_t now_us);
  // Of the token that has begun: experts that the first layers will want whatever comes, by the layer's
  // index, nearest first.
  struct Certain {
    size_t layer = 0;
    int32_t expert = 0;
  };
  void know(std::span<const Certain> experts);
  // A layer's router has spoken, and what it wants has been leased.
  Status routed(const RoutingState& state);
  void end_token(int64_t now_us);
  // What the predictor's thread still has to say is said; only who does not mind to wait asks for that.
  void await_guesses();

  // Trusts what an earlier run found out about prefetching; before the first token.
  void trust(const PrefetchGovernor::Experience& earlier) { governor_ = PrefetchGovernor(earlier); }

  // How good the guesses were, by how far they were ahead.
  std::span<const Stats::Predictor::Ahead> ahead() const { return ahead_; }
  const PrefetchGovernor& governor() const { return governor_; }

 private:
  GuessList& list(size_t layer, size_t distance) ODMOE_REQUIRES(mutex_) {
    return lists_[layer * lookahead_ + distance - 1];
  }
  size_t layer_of(uint64_t step) const { return static_cast<size_t>(step % shape_.n_layer()); }
  void set_depth(PrefetchDepth depth);
  void take_rows(uint64_t step, int32_t n_row, std::span<const float> scores);
  void judge(const RoutingState& state) ODMOE_REQUIRES(mutex_);
  void hint(uint64_t step) ODMOE_REQUIRES(mutex_);
  bool worth_asking(uint64_t step) const ODMOE_REQUIRES(mutex_);

  std::unique_ptr<Predictor> predictor_;
  PredictorShape shape_;
  size_t lookahead_;
  ExpertStore* store_ = nullptr;
  HintSink* sink_ = nullptr;
  PrefetchGovernor governor_;
  bool active_ = false;    // for this token
  uint64_t n_active_ = 0;  // tokens for which it was
  uint64_t token_step_;    // of this token's first layer; the one before it stands for the embedding
  ExpertStoreStats before_;
  int64_t begin_us_ = 0;
  std::vector<float> scores_;  // of a predictor that is asked here
  std::vector<Stats::Predictor::Ahead> ahead_;

  // What follows is the predictor's thread's, too.
  mutable Mutex mutex_;
  uint64_t next_step_ ODMOE_GUARDED_BY(mutex_) = 0;                     // whose router has not spoken yet
  PrefetchDepth depth_ ODMOE_GUARDED_BY(mutex_) = PrefetchDepth::kFew;  // the store's
  double busy_share_ ODMOE_GUARDED_BY(mutex_) =
      0;  // of the time that tokens take, the drive is at work; lately
  std::vector<GuessList> lists_ ODMOE_GUARDED_BY(mutex_);  // [lookahead, n_layer]
  GuessWorth worth_ ODMOE_GUARDED_BY(mutex_);
  std::vector<Certain> certain_ ODMOE_GUARDED_BY(mutex_);  // of this token
  std::vector<ExpertKey> hints_ ODMOE_GUARDED_BY(mutex_);
  std::optional<PredictionThread> thread_;  // last: it uses the others
};

}  // namespace odmoe
