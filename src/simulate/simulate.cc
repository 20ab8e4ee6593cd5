#include "simulate/simulate.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "store/residency_policy.h"

namespace odmoe {
namespace {

constexpr size_t kEventsBetweenReports = 1 << 12;

Result<int32_t> checked(const RoutingTrace& trace, int64_t n_slot) {
  if (n_slot < trace.n_expert_used) {
    return fail(ErrorKind::kUsage, "a budget of {} experts is less than the {} of one token in one layer",
                n_slot, trace.n_expert_used);
  }
  const int64_t all = int64_t{trace.n_layer} * trace.n_expert;  // more is never used
  return static_cast<int32_t>(std::min(n_slot, all));
}

Status report(const SimulationProgress& progress, size_t done, size_t all) {
  if (done % kEventsBetweenReports != 0 || !progress) return {};
  if (progress(static_cast<double>(done) / static_cast<double>(all))) return {};
  return fail(ErrorKind::kInterrupted, "interrupted");
}

}  // namespace

Result<SimulatedHits> simulate(const RoutingTrace& trace, PolicyKind kind, int64_t wanted_slots,
                               const SimulationProgress& progress) {
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_slot, checked(trace, wanted_slots));
  std::vector<PolicyLayer> layers;
  for (int32_t layer = 0; layer < trace.n_layer; ++layer) layers.push_back({layer, trace.n_expert});
  const auto policy = make_policy(kind, layers, n_slot, trace.n_expert_used);
  std::vector<bool> resident(static_cast<size_t>(trace.n_layer) * static_cast<size_t>(trace.n_expert));
  const auto at = [&](ExpertKey key) {
    return static_cast<size_t>(key.layer) * static_cast<size_t>(trace.n_expert) +
           static_cast<size_t>(key.expert);
  };
  int32_t n_free = n_slot;
  SimulatedHits result;
  for (size_t i = 0; i < trace.events.size(); ++i) {
    ODMOE_RETURN_IF_ERROR(report(progress, i, trace.events.size()));
    const RoutingTrace::Event& event = trace.events[i];
    const std::span<const int32_t> experts = trace.experts_of(event);
    policy->observe(event.layer, experts, trace.weights_of(event));
    for (const int32_t expert : experts) {
      const ExpertKey key{event.layer, expert};
      if (!resident[at(key)]) continue;
      ++result.hits;
      policy->set_held(key, true);
    }
    for (const int32_t expert : experts) {
      const ExpertKey key{event.layer, expert};
      if (resident[at(key)]) continue;
      // An event has no more experts than the model uses, so each may borrow, as in the store.
      bool free = n_free > 0 && takes_free_slot(*policy, event.layer, Reach::kBorrow, trace.n_expert_used);
      if (!free) {
        if (const auto victim = policy->victim(event.layer, Reach::kBorrow)) {
          policy->remove(*victim);
          resident[at(*victim)] = false;
        } else {
          free = true;  // all members are held, of which there are fewer than slots
        }
      }
      if (free) --n_free;
      policy->admit(key);
      resident[at(key)] = true;
    }
    for (size_t k = experts.size(); k-- > 0;) policy->use({event.layer, experts[k]});
    for (const int32_t expert : experts) policy->set_held({event.layer, expert}, false);
    result.demands += experts.size();
  }
  return result;
}

Result<SimulatedHits> simulate_belady(const RoutingTrace& trace, int64_t wanted_slots,
                                      const SimulationProgress& progress) {
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_slot, checked(trace, wanted_slots));
  constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();
  const size_t n_event = trace.events.size();
  const auto n_expert = static_cast<size_t>(trace.n_expert);
  const size_t n_key = static_cast<size_t>(trace.n_layer) * n_expert;
  // Of each choice, the event that asks for the same expert next.
  std::vector<uint64_t> next_use(trace.experts.size());
  std::vector<uint64_t> seen(n_key, kNever);
  for (size_t i = n_event; i-- > 0;) {
    const RoutingTrace::Event& event = trace.events[i];
    for (uint64_t c = event.first; c < event.first + event.n_expert; ++c) {
      const size_t key = static_cast<size_t>(event.layer) * n_expert + static_cast<size_t>(trace.experts[c]);
      next_use[c] = std::exchange(seen[key], i);
    }
  }
  std::set<std::pair<uint64_t, size_t>> members;  // by next use
  std::vector<uint64_t> due(n_key, kNever);
  std::vector<bool> resident(n_key);
  SimulatedHits result;
  for (size_t i = 0; i < n_event; ++i) {
    ODMOE_RETURN_IF_ERROR(report(progress, i, n_event));
    const RoutingTrace::Event& event = trace.events[i];
    const auto key_of = [&](uint64_t c) {
      return static_cast<size_t>(event.layer) * n_expert + static_cast<size_t>(trace.experts[c]);
    };
    for (uint64_t c = event.first; c < event.first + event.n_expert; ++c) {
      const size_t key = key_of(c);
      if (!resident[key]) continue;
      ++result.hits;
      members.erase({due[key], key});
    }
    while (members.size() + event.n_expert > static_cast<size_t>(n_slot)) {
      const auto last = std::prev(members.end());
      resident[last->second] = false;
      members.erase(last);
    }
    for (uint64_t c = event.first; c < event.first + event.n_expert; ++c) {
      const size_t key = key_of(c);
      resident[key] = true;
      due[key] = next_use[c];
      members.emplace(due[key], key);
    }
    result.demands += event.n_expert;
  }
  return result;
}

}  // namespace odmoe
