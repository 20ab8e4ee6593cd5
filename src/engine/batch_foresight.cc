#include "engine/batch_foresight.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace odmoe {
namespace {

constexpr double kLatelyOfSteps = 1.0 / 16;  // weight of a step in busy_share_
// Where nothing is worth a read, guesses are made only in every so many steps, to see whether that has
// changed.
constexpr uint64_t kLookAgainSteps = 16;

}  // namespace

BatchForesight::BatchForesight(Predictor& predictor, const PredictorShape& shape, int32_t lookahead,
                               int32_t max_tokens, const PrefetchGovernor& governor)
    : predictor_(predictor),
      shape_(shape),
      lookahead_(static_cast<size_t>(lookahead)),
      governor_(governor),
      worth_(shape_, lookahead),
      lists_(static_cast<size_t>(max_tokens) * shape_.n_layer() * lookahead_, GuessList(shape_)),
      scores_(shape_.n_score()),
      nobody_(static_cast<size_t>(shape_.n_expert), 1.0),
      ahead_(lookahead_) {
  assert(!predictor.remembers());
  named_.reserve(nobody_.size());
  hints_.reserve(lookahead_ * nobody_.size());
}

uint64_t BatchForesight::bytes() const {
  const GuessList& one = lists_.front();
  return lists_.size() * (sizeof(GuessList) + one.experts.size() * sizeof(int32_t) + one.absent.size()) +
         scores_.size() * sizeof(float);
}

bool BatchForesight::begin_step(size_t n_token, int64_t now_us) {
  before_ = store_->stats();
  begin_us_ = now_us;
  n_token_ = n_token;
  const auto n_expert = static_cast<int64_t>(shape_.n_expert) * static_cast<int64_t>(shape_.n_layer());
  const Prefetching now = before_.n_slot < n_expert ? governor_.now() : Prefetching::kOff;
  active_ = now != Prefetching::kOff;
  n_active_ += active_ ? 1 : 0;
  depth_ = now == Prefetching::kMany ? PrefetchDepth::kMany : PrefetchDepth::kFew;
  if (!active_) return false;  // and nobody looks at lists
  for (GuessList& list : lists_) list.made = false;
  store_->set_prefetch_depth(depth_);
  return true;
}

Status BatchForesight::begin_token(size_t token, std::span<const float> embedding) {
  if (!worth_asking(0)) return {};
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_row, predictor_.begin_token(embedding, scores_));
  take_rows(token, 0, n_row);
  return {};
}

Status BatchForesight::routed(size_t token, const RoutingState& state) {
  for (size_t d = 1; d <= lookahead_; ++d) {
    GuessList& said = list(token, state.layer, d);
    if (!std::exchange(said.made, false)) continue;
    worth_.observe(state.layer, d, said, state.experts);
    ahead_[d - 1].wanted += state.experts.size();
    for (const int32_t expert : std::span(said.experts).first(state.experts.size())) {
      ahead_[d - 1].foreseen += static_cast<uint64_t>(std::ranges::count(state.experts, expert));
    }
  }
  if (state.layer + 1 == shape_.n_layer() || !worth_asking(state.layer + 1)) return {};
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_row, predictor_.predict(state, scores_));
  take_rows(token, state.layer + 1, n_row);
  return {};
}

// Scores of the layers from `first` on; of the next step's nothing is known.
void BatchForesight::take_rows(size_t token, size_t first, int32_t n_row) {
  const auto n_expert = static_cast<size_t>(shape_.n_expert);
  const size_t n = std::min({static_cast<size_t>(n_row), lookahead_, shape_.n_layer() - first});
  for (size_t i = 0; i < n; ++i) {
    list(token, first + i, i + 1)
        .make(*store_, shape_.layers[first + i], std::span(scores_).subspan(i * n_expert, n_expert));
  }
}

bool BatchForesight::worth_asking(size_t first) const {
  if (n_active_ <= kLookAgainSteps || n_active_ % kLookAgainSteps == 0) return true;
  const double least = worth_.least_probability(busy_share_, depth_, n_token_);
  const size_t n = std::min(lookahead_, shape_.n_layer() - first);
  for (size_t i = 0; i < n; ++i) {
    // If all tokens named the same expert first.
    double nobody = 1;
    for (size_t token = 0; token < n_token_; ++token) nobody *= 1 - worth_.probability(first + i, i + 1, 0);
    if (1 - nobody > least) return true;
  }
  return false;
}

// Of the layers from `first` on, nearest first, what is worth a read, likeliest first.
void BatchForesight::hint(size_t first) {
  const double least = worth_.least_probability(busy_share_, depth_, n_token_);
  hints_.clear();
  for (size_t layer = first; layer < std::min(first + lookahead_, shape_.n_layer()); ++layer) {
    add_hints(layer, least);
  }
  if (sink_ != nullptr) return sink_->hint(hints_, depth_);
  store_->prefetch(hints_, Reach::kBorrow);
}

void BatchForesight::add_hints(size_t layer, double least) {
  named_.clear();
  for (size_t token = 0; token < n_token_; ++token) {
    for (size_t d = 1; d <= lookahead_; ++d) {  // what was said last
      const GuessList& said = list(token, layer, d);
      if (!said.made) continue;
      for (size_t rank = 0; rank < said.experts.size(); ++rank) {
        double& nobody = nobody_[static_cast<size_t>(said.experts[rank])];
        if (nobody == 1) named_.push_back(said.experts[rank]);
        // Never 1 again, so that nothing is named twice.
        nobody *= 1 - std::max(worth_.probability(layer, d, rank), 1e-9);
      }
      break;
    }
  }
  std::ranges::sort(named_, {},
                    [&](int32_t expert) { return std::pair(nobody_[static_cast<size_t>(expert)], expert); });
  for (const int32_t expert : named_) {
    double& nobody = nobody_[static_cast<size_t>(expert)];
    if (1 - nobody > least) hints_.push_back({shape_.layers[layer], expert});
    nobody = 1;
  }
}

void BatchForesight::end_step(int64_t now_us) {
  if (before_.n_slot >= shape_.n_expert * static_cast<int64_t>(shape_.n_layer())) return;
  const ExpertStoreStats after = store_->stats();
  const int64_t us = std::max<int64_t>(now_us - begin_us_, 1);
  const auto busy_us = static_cast<double>(after.wanted_busy_us - before_.wanted_busy_us);
  busy_share_ += (std::min(busy_us / static_cast<double>(us), 1.0) - busy_share_) * kLatelyOfSteps;
  // By token: steps differ in how many they have.
  const auto n = static_cast<int64_t>(n_token_);
  governor_.token_done(
      {.us = us / n,
       .missing =
           (after.misses - before_.misses + after.prefetched_used - before_.prefetched_used) / n_token_});
}

}  // namespace odmoe
