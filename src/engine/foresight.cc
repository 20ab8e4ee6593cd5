#include "engine/foresight.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/mutex.h"

namespace odmoe {
namespace {

// Lists are as long as this many times what a router chooses: what may be worth a read.
constexpr int32_t kListFactor = 2;
constexpr double kRecentWeight = 1.0 / 16;  // weight of a token in busy_share_
// A layer whose lists are worth no read is guessed at only in every so many tokens, to see whether that has
// changed; for the first ones all are.
constexpr uint64_t kLookAgain = 16;
// By how much less a read that is not wanted delays others where many are in flight; measured
// (docs/shadow-model.md).
constexpr double kDelayAmongMany = 1.0 / 3;
// What a layer shows of its own counts fully only after so many absent experts were wanted, and less the
// longer ago it was.
constexpr double kLayerPrior = 8, kLayerFade = 0.999;

int32_t n_rank(const PredictorShape& shape) {
  return std::min(shape.n_expert, kListFactor * shape.n_expert_used);
}

}  // namespace

Foresight::Foresight(std::unique_ptr<Predictor> predictor, PredictorShape shape, int32_t lookahead, Ask ask)
    : predictor_(std::move(predictor)),
      shape_(std::move(shape)),
      lookahead_(static_cast<size_t>(lookahead)),
      token_step_(shape_.n_layer()),
      ahead_(lookahead_),
      lists_(shape_.n_layer() * lookahead_),
      worth_(lookahead, n_rank(shape_), shape_.n_expert, shape_.n_expert_used),
      layer_worth_(lists_.size()) {
  const auto n = static_cast<size_t>(n_rank(shape_));
  for (List& list : lists_) {
    list.experts.resize(n);
    list.absent.resize(n);
  }
  certain_.reserve(shape_.n_layer() * static_cast<size_t>(shape_.n_expert_used));
  hints_.reserve(lookahead_ * n + certain_.capacity());
  if (ask == Ask::kHere) {
    scores_.resize(shape_.n_score());
  } else {
    thread_.emplace(*predictor_, shape_, [this](uint64_t step, int32_t n_row, std::span<const float> scores) {
      take_rows(step, n_row, scores);
    });
  }
}

void Foresight::attach(ExpertStore& store) { store_ = &store; }

void Foresight::begin_sequence() {
  if (thread_) {
    thread_->begin_sequence();
  } else {
    predictor_->begin_sequence();
  }
  const MutexLock lock(mutex_);
  for (List& list : lists_) list.made = false;
}

void Foresight::await_guesses() {
  if (thread_) thread_->await_all();
}

Status Foresight::begin_token(std::span<const float> embedding, int64_t now_us) {
  before_ = store_->stats();
  begin_us_ = now_us;
  token_step_ += shape_.n_layer();
  {
    const MutexLock lock(mutex_);
    certain_.clear();
  }
  // Where everything fits there is nothing to be read early.
  const auto n_expert = static_cast<int64_t>(shape_.n_expert) * static_cast<int64_t>(shape_.n_layer());
  const Prefetching now = before_.n_slot < n_expert ? governor_.now() : Prefetching::kOff;
  active_ = now != Prefetching::kOff;
  set_depth(now == Prefetching::kMany ? PrefetchDepth::kMany : PrefetchDepth::kFew);
  n_active_ += active_ ? 1 : 0;
  if (!active_) return {};
  if (thread_) return thread_->begin_token(token_step_ - 1, embedding);
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_row, predictor_->begin_token(embedding, scores_));
  if (n_row > 0) take_rows(token_step_ - 1, n_row, scores_);
  return {};
}

void Foresight::know(std::span<const Certain> experts) {
  if (!active_) return;
  const MutexLock lock(mutex_);
  certain_.assign(experts.begin(), experts.end());
  hint(token_step_ - 1);
}

void Foresight::set_depth(PrefetchDepth depth) {
  {
    const MutexLock lock(mutex_);
    if (std::exchange(depth_, depth) == depth) return;
  }
  store_->set_prefetch_depth(depth);
}

Status Foresight::routed(const RoutingState& state) {
  const uint64_t step = token_step_ + state.layer;
  bool ask = active_;
  {
    const MutexLock lock(mutex_);
    next_step_ = step + 1;
    judge(state);
    ask = ask && worth_asking(step);
  }
  if (thread_) return thread_->routed(step, state, ask);
  predictor_->learn(state);
  if (!ask) return {};
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_row, predictor_->predict(state, scores_));
  take_rows(step, n_row, scores_);
  return {};
}

// What was said after a step, and what is to be read because of it.
void Foresight::take_rows(uint64_t step, int32_t n_row, std::span<const float> scores) {
  const MutexLock lock(mutex_);
  const auto n_expert = static_cast<size_t>(shape_.n_expert);
  for (size_t d = 1; d <= std::min(static_cast<size_t>(n_row), lookahead_); ++d) {
    if (step + d < next_step_) continue;  // too late
    const size_t target = layer_of(step + d);
    List& made = list(target, d);
    best_experts(scores.subspan((d - 1) * n_expert, n_expert), made.experts);
    made.made = true;
    const int layer = shape_.layers[target];
    for (size_t rank = 0; rank < made.experts.size(); ++rank) {
      made.absent[rank] = store_->residency({layer, made.experts[rank]}) == Residency::kAbsent ? 1 : 0;
    }
  }
  hint(step);
}

// How many of the layer's experts had been foreseen, and at which ranks.
void Foresight::judge(const RoutingState& state) {
  const auto n_used = static_cast<size_t>(shape_.n_expert_used);
  for (size_t d = 1; d <= lookahead_; ++d) {
    List& said = list(state.layer, d);
    if (!std::exchange(said.made, false)) continue;
    LayerWorth& layer = layer_worth_[state.layer * lookahead_ + d - 1];
    for (size_t rank = 0; rank < said.experts.size(); ++rank) {
      if (said.absent[rank] == 0) continue;
      const bool wanted = std::ranges::contains(state.experts, said.experts[rank]);
      layer.hits = layer.hits * kLayerFade + (wanted ? 1 : 0);
      layer.expected = layer.expected * kLayerFade +
                       worth_.probability(static_cast<int32_t>(d), static_cast<int32_t>(rank));
    }
    worth_.observe(static_cast<int32_t>(d), said.experts, state.experts, said.absent);
    ahead_[d - 1].wanted += state.experts.size();
    for (const int32_t expert : std::span(said.experts).first(n_used)) {
      ahead_[d - 1].foreseen += static_cast<uint64_t>(std::ranges::count(state.experts, expert));
    }
  }
}

// That the expert at `rank`, being absent, will be wanted.
double Foresight::probability(size_t target, size_t distance, size_t rank) const {
  const LayerWorth& layer = layer_worth_[target * lookahead_ + distance - 1];
  const double factor = (layer.hits + kLayerPrior) / (layer.expected + kLayerPrior);
  return std::min(worth_.probability(static_cast<int32_t>(distance), static_cast<int32_t>(rank)) * factor,
                  1.0);
}

// A read that is not wanted delays one that is by as long as it takes itself, if the drive is busy then; one
// that is wanted saves as much.  With probability p of being wanted and a drive that is busy for a share u of
// the time, it pays where p > (1 - p) u.  A drive for which many reads at a time are the better choice works
// on several at once, and is delayed by less.  And what is no likelier than any other expert is no guess.
double Foresight::least_probability() const {
  const double chance = static_cast<double>(shape_.n_expert_used) / shape_.n_expert;
  const double delay = depth_ == PrefetchDepth::kMany ? kDelayAmongMany * busy_share_ : busy_share_;
  return std::max(delay / (1 + delay), chance);
}

bool Foresight::worth_asking(uint64_t step) const {
  if (n_active_ <= kLookAgain || n_active_ % kLookAgain == 0) return true;
  for (size_t d = 1; d <= lookahead_; ++d) {
    if (probability(layer_of(step + d), d, 0) > least_probability()) return true;
  }
  return false;
}

// What is certain, and of each other layer's latest list what is worth a read, nearest layer first.
void Foresight::hint(uint64_t step) {
  const double least = least_probability();
  hints_.clear();
  for (const Certain& one : certain_) {
    if (token_step_ + one.layer >= next_step_) hints_.push_back({shape_.layers[one.layer], one.expert});
  }
  for (size_t i = 1; i <= lookahead_; ++i) {
    if (step + i < next_step_) continue;
    const size_t target = layer_of(step + i);
    if (std::ranges::contains(certain_, target, &Certain::layer)) continue;
    for (size_t d = 1; d <= lookahead_; ++d) {
      const List& said = list(target, d);
      if (!said.made) continue;
      for (size_t rank = 0; rank < said.experts.size(); ++rank) {
        if (probability(target, d, rank) <= least) break;
        hints_.push_back({shape_.layers[target], said.experts[rank]});
      }
      break;
    }
  }
  store_->prefetch(hints_, Reach::kBorrow);
}

void Foresight::end_token(int64_t now_us) {
  const ExpertStoreStats after = store_->stats();
  const int64_t us = std::max<int64_t>(now_us - begin_us_, 1);
  const auto busy_us = static_cast<double>(after.read_busy_us - before_.read_busy_us);
  {
    const MutexLock lock(mutex_);
    busy_share_ += (std::min(busy_us / static_cast<double>(us), 1.0) - busy_share_) * kRecentWeight;
  }
  if (before_.n_slot < shape_.n_expert * static_cast<int64_t>(shape_.n_layer())) {
    governor_.token_done(
        {.us = us,
         .missing = after.misses - before_.misses + after.prefetched_used - before_.prefetched_used});
  }
}

}  // namespace odmoe
