// The experts of one layer in a forward pass: what its router chooses is asked of the store, and computed as
// it arrives.
#include <algorithm>
#include <cassert>
#include <utility>

#include "engine/forward_pass.h"

namespace odmoe {

void ForwardPass::route(const Activations& a, int layer, int64_t n_token) {
  const auto n_expert = static_cast<size_t>(decoder_->shape().router.n_expert);
  const auto n_used = static_cast<size_t>(decoder_->shape().router.n_expert_used);
  const auto* logits = static_cast<const float*>(a.router_logits->data);
  auto* weights = static_cast<float*>(a.expert_weight->data);
  const std::span<const float> bias = decoder_->router_bias(layer);
  const auto n_pair = static_cast<size_t>(n_token) * n_used;
  const std::span<int32_t> chosen = std::span(chosen_).first(n_pair);
  const std::span<float> chosen_weight = std::span(chosen_weight_).first(n_pair);
  for (size_t t = 0; t < static_cast<size_t>(n_token); ++t) {
    const auto column = static_cast<size_t>(column_[t]);
    const std::span<int32_t> ids = chosen.subspan(t * n_used, n_used);
    const std::span<float> weight = chosen_weight.subspan(t * n_used, n_used);
    const auto probabilities = router_.route({logits + column * n_expert, n_expert}, bias, ids, weight);
    std::ranges::copy(weight, weights + column * n_used);
    routing_.add(layer, ids, probabilities);
  }

  store_->observe(layer, chosen, chosen_weight);

  // Pairs by expert, tokens in order; experts in the order in which tokens first ask for them.
  std::ranges::fill(pair_begin_, 0);
  pending_.clear();
  for (const int32_t expert : chosen) {
    if (pair_begin_[static_cast<size_t>(expert) + 1]++ == 0) pending_.push_back(expert);
  }
  n_distinct_ = pending_.size();
  for (size_t e = 0; e < n_expert; ++e) pair_begin_[e + 1] += pair_begin_[e];
  // Filling moves every begin to its end, which is the next one's begin: shifted back afterwards.
  for (size_t i = 0; i < chosen.size(); ++i) {
    pair_index_[static_cast<size_t>(pair_begin_[static_cast<size_t>(chosen[i])]++)] = static_cast<int32_t>(i);
  }
  for (size_t e = n_expert; e > 0; --e) pair_begin_[e] = pair_begin_[e - 1];
  pair_begin_[0] = 0;
}

size_t ForwardPass::lease_pending(int layer) {
  if (pending_.empty()) return 0;
  const size_t before = leases_.size();
  const size_t leased = store_->lease(layer, pending_, leases_);
  for (size_t i = before; i < leases_.size(); ++i) std::erase(pending_, leases_[i].key().expert);
  return leased;
}

// A chunk that wants nearly all experts of this layer will want nearly all of the next one's: they are asked
// for before that router has spoken, once the drive has nothing left to read for this layer.
void ForwardPass::read_ahead(size_t segment) {
  const std::vector<int>& layers = decoder_->expert_layers();
  const int32_t n_expert = decoder_->shape().router.n_expert;
  if (segment + 1 == layers.size() || std::cmp_less(n_distinct_ * 4, n_expert * 3)) return;
  hints_.clear();
  for (int32_t expert = 0; expert < n_expert; ++expert) hints_.push_back({layers[segment + 1], expert});
  store_->prefetch(hints_, Reach::kShare);
}

Status ForwardPass::run_experts(size_t segment, int64_t n_token, bool in_lanes) {
  const int layer = decoder_->expert_layers()[segment];
  bool ahead = false;
  while (!leases_.empty()) {
    ODMOE_RETURN_IF_ERROR(check_interrupt());
    if (pending_.empty() && !std::exchange(ahead, true)) read_ahead(segment);
    ODMOE_ASSIGN_OR_RETURN(const size_t n_ready, store_->wait_any(leases_));
    ODMOE_ASSIGN_OR_RETURN(const size_t n_done, compute_some(layer, n_token, n_ready, in_lanes));
    leases_.erase(leases_.begin(), leases_.begin() + static_cast<ptrdiff_t>(n_done));
    lease_pending(layer);
  }
  assert(pending_.empty());
  return {};
}

// A single token waits for its experts more than it computes, so gate and up start before down has arrived.
Status ForwardPass::run_experts_of_one(const Activations& a, int layer) {
  const LayerExperts& experts = experts_[static_cast<size_t>(layer)];
  size_t n_begun = 0;  // of the leases, those in front whose gate and up are computed
  while (!leases_.empty()) {
    ODMOE_RETURN_IF_ERROR(check_interrupt());
    const std::span<ExpertLease> leases(leases_);
    ODMOE_ASSIGN_OR_RETURN(const ExpertStore::Landed landed,
                           store_->wait_landed(leases.first(n_begun), leases.subspan(n_begun)));
    const std::span<ExpertLease> fresh = leases.subspan(n_begun);
    if (landed.ready > 0) {
      collect_pairs(leases.first(landed.ready));
      ODMOE_RETURN_IF_ERROR(compute_->run_down(experts, arena_.get(), a, pairs_));
    }
    if (landed.ready_new > 0) {
      collect_pairs(fresh.first(landed.ready_new));
      ODMOE_RETURN_IF_ERROR(compute_->run(experts, arena_.get(), a, 1, pairs_));
    }
    if (landed.gate_up_new > 0) {
      collect_pairs(fresh.subspan(landed.ready_new, landed.gate_up_new));
      ODMOE_RETURN_IF_ERROR(compute_->run_gate_up(experts, arena_.get(), a, pairs_));
    }
    ODMOE_RETURN_IF_ERROR(check_experts(a, layer));
    const auto at = [&](size_t i) { return leases_.begin() + static_cast<ptrdiff_t>(i); };
    leases_.erase(at(n_begun), at(n_begun + landed.ready_new));
    leases_.erase(at(0), at(landed.ready));
    n_begun += landed.gate_up_new - landed.ready;
    lease_pending(layer);
  }
  assert(pending_.empty());
  return {};
}

// The pairs of the leased experts, into pairs_.
void ForwardPass::collect_pairs(std::span<const ExpertLease> leases) {
  pairs_.clear();
  for (const ExpertLease& lease : leases) add_pairs(lease);
}

void ForwardPass::add_pairs(const ExpertLease& lease) {
  const int32_t n_used = decoder_->shape().router.n_expert_used;
  const auto expert = static_cast<size_t>(lease.key().expert);
  for (int32_t p = pair_begin_[expert]; p < pair_begin_[expert + 1]; ++p) {
    const int32_t pair = pair_index_[static_cast<size_t>(p)];
    pairs_.push_back(
        {.token = column_[static_cast<size_t>(pair / n_used)], .rank = pair % n_used, .slot = lease.slot()});
  }
}

// Of the leases' first n_ready, which are ready, computes as many as suit; returns how many.
Result<size_t> ForwardPass::compute_some(int layer, int64_t n_token, size_t n_ready, bool in_lanes) {
  // Slots that others wait for are given back early, so that the drive is at work meanwhile.
  const int64_t enough = pending_.empty() ? compute_->max_pairs() : compute_->max_pairs() / 4;
  const bool all = n_ready == n_distinct_;
  pairs_.clear();
  size_t n_done = 0;
  for (; n_done < n_ready; ++n_done) {
    const auto expert = static_cast<size_t>(leases_[n_done].key().expert);
    const auto n_pair = static_cast<size_t>(pair_begin_[expert + 1] - pair_begin_[expert]);
    if (!all && !pairs_.empty() && std::cmp_greater(pairs_.size() + n_pair, enough)) break;
    add_pairs(leases_[n_done]);
  }
  const LayerExperts& experts = experts_[static_cast<size_t>(layer)];
  ODMOE_RETURN_IF_ERROR(in_lanes ? compute_->run_columns(experts, arena_.get(), activations_, pairs_)
                                 : compute_->run(experts, arena_.get(), activations_, n_token, pairs_));
  ODMOE_RETURN_IF_ERROR(check_experts(activations_, layer));
  return n_done;
}

}  // namespace odmoe
