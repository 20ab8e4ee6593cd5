// Experts read before anybody asks for them, wherever they are computed.
#include <algorithm>
#include <chrono>
#include <thread>

#include "engine/engine_impl.h"

namespace odmoe {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(2);

}  // namespace

Status EngineImpl::warm(std::span<const LikelyExpert> experts, const LoadProgress& progress) {
  const std::vector<int>& layers = decoder_->expert_layers();
  std::vector<std::vector<ExpertKey>> keys(more_sites_.size() + 1);  // by site
  MutexLock lock(evaluation_mutex_);                                 // owners stay
  for (const LikelyExpert& likely : experts) {
    if (!std::ranges::contains(layers, likely.layer) || likely.expert < 0 ||
        likely.expert >= source_->n_expert(likely.layer)) {
      return fail(ErrorKind::kUsage, "the model has no expert {} in layer {}", likely.expert, likely.layer);
    }
    const size_t site = forward_->owners().site_of_layer(likely.layer, likely.expert);
    keys[site].push_back({.layer = likely.layer, .expert = likely.expert});
  }
  std::vector<ExpertSite*> sites{site_ ? static_cast<ExpertSite*>(site_.get()) : device_site_.get()};
  lock.unlock();
  for (const auto& more : more_sites_) sites.push_back(more.site.get());
  for (size_t i = 0; i < sites.size(); ++i) sites[i]->warm(keys[i]);
  while (true) {
    Warmth all;
    for (ExpertSite* site : sites) {
      ODMOE_ASSIGN_OR_RETURN(const Warmth there, site->warmed());
      all.n_read += there.n_read;
      all.n_expert += there.n_expert;
      all.done = all.done && there.done;
    }
    if (progress && !progress(all.n_read, all.n_expert)) {
      return fail(ErrorKind::kInterrupted, "interrupted while experts were read");
    }
    if (all.done) return {};
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace odmoe
