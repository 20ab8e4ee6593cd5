#include "engine/foresight.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/mutex.h"

namespace odmoe {
namespace {

constexpr double kRecentWeight = 1.0 / 16;  // weight of a token in busy_share_
// A layer whose lists are worth no read is guessed at only in every so many tokens, to see whether that has
// changed; for the first ones all are.
constexpr uint64_t kLookAgain = 16;
}  // namespace

Foresight::Foresight(std::unique_ptr<Predictor> predictor, PredictorShape shape, int32_t lookahead, Ask ask)
    : predictor_(std::move(predictor)),
      shape_(std::move(shape)),
      lookahead_(static_cast<size_t>(lookahead)),
      token_step_(shape_.n_layer()),
      ahead_(lookahead_),
      lists_(shape_.n_layer() * lookahead_, GuessList(shape_)),
      worth_(shape_, lookahead) {
  certain_.reserve(shape_.n_layer() * static_cast<size_t>(shape_.n_expert_used));
  hints_.reserve(lookahead_ * GuessList(shape_).experts.size() + certain_.capacity());
  if (ask == Ask::kHere) {
    scores_.resize(shape_.n_score());
  } else {
    thread_.emplace(*predictor_, shape_, [this](uint64_t step, int32_t n_row, std::span<const float> scores) {
      take_rows(step, n_row, scores);
    });
  }
}

void Foresight::attach(ExpertStore& store, HintSink* hints) {
  store_ = &store;
  sink_ = hints;
}

void Foresight::begin_sequence() {
  if (thread_) {
    thread_->begin_sequence();
  } else {
    predictor_->begin_sequence();
  }
  const MutexLock lock(mutex_);
  for (GuessList& list : lists_) list.made = false;
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
    depth_ = depth;
  }
  store_->set_prefetch_depth(depth);  // a step of several may have set another one
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
    list(target, d).make(*store_, shape_.layers[target], scores.subspan((d - 1) * n_expert, n_expert));
  }
  hint(step);
}

// How many of the layer's experts had been foreseen, and at which ranks.
void Foresight::judge(const RoutingState& state) {
  const auto n_used = static_cast<size_t>(shape_.n_expert_used);
  for (size_t d = 1; d <= lookahead_; ++d) {
    GuessList& said = list(state.layer, d);
    if (!std::exchange(said.made, false)) continue;
    worth_.observe(state.layer, d, said, state.experts);
    ahead_[d - 1].wanted += state.experts.size();
    for (const int32_t expert : std::span(said.experts).first(n_used)) {
      ahead_[d - 1].foreseen += static_cast<uint64_t>(std::ranges::count(state.experts, expert));
    }
  }
}

bool Foresight::worth_asking(uint64_t step) const {
  if (n_active_ <= kLookAgain || n_active_ % kLookAgain == 0) return true;
  const double least = worth_.least_probability(busy_share_, depth_);
  for (size_t d = 1; d <= lookahead_; ++d) {
    if (worth_.probability(layer_of(step + d), d, 0) > least) return true;
  }
  return false;
}

// What is certain, and of each other layer's latest list what is worth a read, nearest layer first.
void Foresight::hint(uint64_t step) {
  const double least = worth_.least_probability(busy_share_, depth_);
  hints_.clear();
  for (const Certain& one : certain_) {
    if (token_step_ + one.layer >= next_step_) hints_.push_back({shape_.layers[one.layer], one.expert});
  }
  for (size_t i = 1; i <= lookahead_; ++i) {
    if (step + i < next_step_) continue;
    const size_t target = layer_of(step + i);
    if (std::ranges::contains(certain_, target, &Certain::layer)) continue;
    for (size_t d = 1; d <= lookahead_; ++d) {
      const GuessList& said = list(target, d);
      if (!said.made) continue;
      for (size_t rank = 0; rank < said.experts.size(); ++rank) {
        if (worth_.probability(target, d, rank) <= least) break;
        hints_.push_back({shape_.layers[target], said.experts[rank]});
      }
      break;
    }
  }
  if (sink_ != nullptr) return sink_->hint(hints_, depth_);
  store_->prefetch(hints_, Reach::kBorrow);
}

void Foresight::end_token(int64_t now_us) {
  const ExpertStoreStats after = store_->stats();
  const int64_t us = std::max<int64_t>(now_us - begin_us_, 1);
  const auto busy_us = static_cast<double>(after.wanted_busy_us - before_.wanted_busy_us);
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
