#include "engine/prediction_thread.h"

#include <utility>

#include "base/mutex.h"

namespace odmoe {
namespace {

template <typename T>
void copy(std::span<const T> from, std::vector<T>& to) {
  to.assign(from.begin(), from.end());
}

}  // namespace

PredictionThread::PredictionThread(Predictor& predictor, const PredictorShape& shape, Answer answer)
    : predictor_(predictor), answer_(std::move(answer)), scores_(shape.n_score()), told_(kCapacity) {
  const auto n_embd = static_cast<size_t>(shape.n_embd);
  const auto n_used = static_cast<size_t>(shape.n_expert_used);
  const Predictor::Wants wants = predictor.wants();
  for (Told& told : told_) {
    if (wants.embedding) told.embedding.reserve(n_embd);
    if (wants.router_input) told.router_input.reserve(n_embd);
    if (wants.attention_input) told.attention_input.reserve(n_embd);
    if (wants.residual) told.residual.reserve(n_embd);
    told.weights.reserve(n_used);
    told.experts.reserve(n_used);
  }
  thread_ = std::thread([this] { run(); });
}

PredictionThread::~PredictionThread() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

Status PredictionThread::begin_token(uint64_t step, std::span<const float> embedding) {
  MutexLock lock(mutex_);
  Told& told = next_place();
  if (error_) return std::unexpected(*error_);
  told.kind = Told::Kind::kToken;
  told.step = step;
  copy(embedding, told.embedding);
  ++n_told_;
  changed_.notify_all();
  return {};
}

Status PredictionThread::routed(uint64_t step, const RoutingState& state, bool ask) {
  const Predictor::Wants wants = predictor_.wants();
  MutexLock lock(mutex_);
  if (!ask && n_told_ == 0) {  // waking the thread would cost more
    if (error_) return std::unexpected(*error_);
    predictor_.learn(state);
    return {};
  }
  Told& told = next_place();
  if (error_) return std::unexpected(*error_);
  told.kind = ask ? Told::Kind::kAsk : Told::Kind::kLearn;
  told.step = step;
  told.layer = state.layer;
  if (wants.router_input) copy(state.router_input, told.router_input);
  if (wants.attention_input) copy(state.attention_input, told.attention_input);
  if (wants.residual) copy(state.residual, told.residual);
  copy(state.experts, told.experts);
  copy(state.weights, told.weights);
  ++n_told_;
  changed_.notify_all();
  return {};
}

void PredictionThread::begin_sequence() {
  await_all();
  predictor_.begin_sequence();
}

void PredictionThread::await_all() {
  MutexLock lock(mutex_);
  while (n_told_ > 0) changed_.wait(mutex_);
}

PredictionThread::Told& PredictionThread::next_place() {
  while (n_told_ >= kCapacity) changed_.wait(mutex_);
  return told_[(first_ + n_told_) % kCapacity];
}

bool PredictionThread::asked_again() const {
  for (size_t i = 1; i < n_told_; ++i) {
    if (told_[(first_ + i) % kCapacity].kind == Told::Kind::kAsk) return true;
  }
  return false;
}

void PredictionThread::run() {
  MutexLock lock(mutex_);
  while (true) {
    while (!stop_ && n_told_ == 0) changed_.wait(mutex_);
    if (stop_) return;
    const Told& told = told_[first_];
    const bool in_time = !asked_again();
    lock.unlock();
    Result<int32_t> n_row = digest(told, in_time);
    if (n_row.has_value() && *n_row > 0) answer_(told.step, *n_row, scores_);
    lock.lock();
    if (!n_row.has_value() && !error_) error_ = std::move(n_row.error());
    first_ = (first_ + 1) % kCapacity;
    --n_told_;
    changed_.notify_all();
  }
}

Result<int32_t> PredictionThread::digest(const Told& told, bool in_time) {
  if (told.kind == Told::Kind::kToken) return predictor_.begin_token(told.embedding, scores_);
  const RoutingState state{.layer = told.layer,
                           .router_input = told.router_input,
                           .attention_input = told.attention_input,
                           .residual = told.residual,
                           .experts = told.experts,
                           .weights = told.weights};
  predictor_.learn(state);
  if (told.kind != Told::Kind::kAsk || !in_time) return 0;
  return predictor_.predict(state, scores_);
}

}  // namespace odmoe
