#include "engine/warming.h"

#include <algorithm>
#include <span>
#include <utility>

namespace odmoe {
namespace {

// Hints that have not begun by then will not: a layer's share is full.
constexpr auto kPatience = std::chrono::milliseconds(100);

}  // namespace

Warming::Warming(ExpertStore& store, std::vector<ExpertKey> experts, bool fills)
    : store_(store), experts_(std::move(experts)), fills_(fills) {
  // What is likely goes before what merely comes first.
  store_.set_fill(false);
  experts_.resize(std::min(experts_.size(), static_cast<size_t>(store_.stats().n_slot)));
  ask();
}

Warming::~Warming() { store_.set_fill(fills_); }

// Hints replace those before them, so each batch is waited for.
void Warming::ask() {
  asked_ = end_;
  end_ += std::min(experts_.size() - asked_, ExpertStore::kMaxHints);
  there_ = 0;
  moved_ = std::chrono::steady_clock::now();
  if (asked_ < end_) store_.prefetch(std::span(experts_).subspan(asked_, end_ - asked_), Reach::kShare);
}

Warmth Warming::go_on() {
  size_t resident = 0, loading = 0;
  for (size_t i = asked_; i < end_; ++i) {
    const Residency residency = store_.residency(experts_[i]);
    resident += residency == Residency::kResident ? 1 : 0;
    loading += residency == Residency::kLoading ? 1 : 0;
  }
  const auto now = std::chrono::steady_clock::now();
  if (resident > there_ || loading > 0) moved_ = now;
  there_ = resident;
  if (resident < end_ - asked_ && now - moved_ <= kPatience) {
    return {.n_read = asked_ + resident, .n_expert = experts_.size(), .done = false};
  }
  ask();
  return {.n_read = asked_, .n_expert = experts_.size(), .done = asked_ == experts_.size()};
}

void SiteWarming::begin(ExpertStore& store, std::span<const ExpertKey> experts, bool fills) {
  warming_.reset();  // before another one asks the store
  warming_ = std::make_unique<Warming>(store, std::vector(experts.begin(), experts.end()), fills);
}

Warmth SiteWarming::go_on() {
  if (warming_ != nullptr) warmth_ = warming_->go_on();
  if (warmth_.done) warming_.reset();
  return warmth_;
}

}  // namespace odmoe
