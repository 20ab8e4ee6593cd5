// Experts read before anybody asks for them.
#include <algorithm>
#include <chrono>
#include <thread>

#include "engine/engine_impl.h"

namespace odmoe {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(2);
// Hints that have not begun by then will not: a layer's share is full.
constexpr auto kPatience = std::chrono::milliseconds(100);

}  // namespace

Status EngineImpl::warm(std::span<const LikelyExpert> experts, const LoadProgress& progress) {
  const std::vector<int>& layers = decoder_->expert_layers();
  std::vector<ExpertKey> keys;
  for (const LikelyExpert& likely : experts) {
    if (!std::ranges::contains(layers, likely.layer) || likely.expert < 0 ||
        likely.expert >= source_->n_expert(likely.layer)) {
      return fail(ErrorKind::kUsage, "the model has no expert {} in layer {}", likely.expert, likely.layer);
    }
    keys.push_back({.layer = likely.layer, .expert = likely.expert});
  }
  // What is likely goes before what merely comes first.
  struct NoFill {
    ExpertStore& store;
    bool fills;
    explicit NoFill(ExpertStore& s, bool f) : store(s), fills(f) { store.set_fill(false); }
    ~NoFill() { store.set_fill(fills); }
  } const no_fill(*store_, options_.fill);
  keys.resize(std::min(keys.size(), static_cast<size_t>(store_->stats().n_slot)));
  for (size_t done = 0; done < keys.size();) {
    // Hints replace those before them, so each batch is waited for.
    const auto batch = std::span(keys).subspan(done, std::min(keys.size() - done, ExpertStore::kMaxHints));
    store_->prefetch(batch, Reach::kShare);
    auto moved = std::chrono::steady_clock::now();
    size_t there = 0;
    while (true) {
      size_t resident = 0, loading = 0;
      for (const ExpertKey key : batch) {
        const Residency residency = store_->residency(key);
        resident += residency == Residency::kResident ? 1 : 0;
        loading += residency == Residency::kLoading ? 1 : 0;
      }
      if (progress && !progress(done + resident, keys.size())) {
        return fail(ErrorKind::kInterrupted, "interrupted while experts were read");
      }
      const auto now = std::chrono::steady_clock::now();
      if (resident > there || loading > 0) moved = now;
      there = resident;
      if (resident == batch.size() || now - moved > kPatience) break;
      std::this_thread::sleep_for(kPoll);
    }
    done += batch.size();
  }
  return {};
}

}  // namespace odmoe
