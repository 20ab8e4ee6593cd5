#include <algorithm>
#include <cassert>
#include <cstring>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "store/expert_store_impl.h"

namespace odmoe {

// A slot for an expert of the layer, emptied if need be; -1 when there is none within reach.  A victim that
// was named by the call `spared_hint` of prefetch() (0: none) is left alone.
int32_t ExpertStore::Impl::find_slot(int layer, Reach reach, uint64_t spared_hint) {
  Layer& own = layer_of(layer);
  Class& slot_class = class_of(layer);
  // Free slots beyond what the layer needs are left to the layers whose home they are.
  const int32_t share = slot_class.policy->share(layer);
  if (takes_free_slot(*slot_class.policy, layer, reach, source_.n_expert_used())) {
    if (const int32_t slot = arena_.take(own.slot_class, own.home, share); slot >= 0) return slot;
  }
  while (const auto victim = slot_class.policy->victim(layer, reach)) {
    Expert& expert = expert_of(*victim);
    if (spared_hint != 0 && expert.hinted == spared_hint) return -1;
    const int32_t slot = expert.slot;
    evict(*victim);
    if (arena_.usable(slot)) return slot;
    // It was in a slot that is to go; perhaps one that stays is free by now.
    arena_.give_back(slot);
    if (const int32_t other = arena_.take(own.slot_class, own.home, share); other >= 0) return other;
  }
  return reach == Reach::kBorrow ? arena_.take(own.slot_class, own.home, share) : -1;
}

// Takes the slot from a resident that nobody holds; the slot is the caller's then.
void ExpertStore::Impl::evict(ExpertKey key) {
  const int32_t slot = std::exchange(expert_of(key).slot, -1);
  assert(slot_at(slot).state == State::kResident && slot_at(slot).n_lease == 0 && !slot_at(slot).moving);
  class_of(key.layer).policy->remove(key);
  slot_at(slot).state = State::kFree;
  ++stats_.evictions;
  --stats_.resident;
}

// Shares and homes for a new number of slots; who is where stays as it is.
void ExpertStore::Impl::set_usable(size_t index, int32_t n_usable) {
  const SlotClass& plan = plan_.classes()[index];
  Class& slot_class = classes_[index];
  n_usable = std::min(n_usable, plan.n_slot);
  if (n_usable == slot_class.n_usable) return;
  const auto delta = static_cast<int64_t>(n_usable) - slot_class.n_usable;
  stats_.n_slot += static_cast<int32_t>(delta);
  stats_.arena_bytes += static_cast<uint64_t>(delta) * plan.slot_bytes;  // modulo 2^64, so right for both
  slot_class.n_usable = n_usable;
  slot_class.policy->resize(n_usable);
  arena_.set_usable(static_cast<int>(index), n_usable);
  int32_t home = plan.first_slot;
  for (const int layer : plan.layers) {
    layer_of(layer).home = home;
    home += slot_class.policy->share(layer);
  }
}

// Evicts until the class has no more members than slots, each time from the layer most above its share.
void ExpertStore::Impl::evict_beyond_shares(const SlotClass& plan, Class& slot_class) {
  ResidencyPolicy& policy = *slot_class.policy;
  int32_t n_member = 0;
  for (const int layer : plan.layers) n_member += policy.n_member(layer);
  for (; n_member > slot_class.n_usable; --n_member) {
    std::optional<ExpertKey> victim;
    int32_t most = 0;
    for (const int layer : plan.layers) {
      const int32_t excess = policy.n_member(layer) - policy.share(layer);
      if (excess <= most) continue;
      if (const auto candidate = policy.victim(layer, Reach::kShare)) {
        victim = candidate;
        most = excess;
      }
    }
    if (!victim) return;  // all that are too many are held; they go when they are released
    const int32_t slot = expert_of(*victim).slot;
    evict(*victim);
    arena_.give_back(slot);
  }
}

void ExpertStore::Impl::gather(size_t index) {
  const SlotClass& plan = plan_.classes()[index];
  Class& slot_class = classes_[index];
  evict_beyond_shares(plan, slot_class);
  for (int32_t from = plan.first_slot + slot_class.n_usable; from < plan.first_slot + plan.n_slot; ++from) {
    Slot& source = slot_at(from);
    if (source.state != State::kResident || source.n_lease > 0)
      continue;  // free, or goes when it is released
    const ExpertKey key = source.key;
    const int32_t to =
        arena_.take(static_cast<int>(index), layer_of(key.layer).home, slot_class.policy->share(key.layer));
    if (to < 0) {  // those that stay are held by others
      evict(key);
      arena_.give_back(from);
      continue;
    }
    // Others may lease and read the expert where it is; then it stays there after all.
    source.moving = true;
    slot_class.policy->set_held(key, true);
    ++slot_class.n_orphan;
    mutex_.unlock();
    std::memcpy(arena_.slot(to), arena_.slot(from), plan.slot_bytes);
    mutex_.lock();
    source.moving = false;
    --slot_class.n_orphan;
    if (source.n_lease > 0) {
      arena_.give_back(to);
    } else {
      slot_at(to).key = key;
      slot_at(to).state = State::kResident;
      slot_at(to).filled = source.filled;
      slot_at(to).prefetched = source.prefetched;
      expert_of(key).slot = to;
      source.state = State::kFree;
      arena_.give_back(from);
      slot_class.policy->set_held(key, false);
      ++stats_.moves;
    }
    changed_.notify_all();
  }
}

uint64_t ExpertStore::Impl::resize(uint64_t arena_bytes) {
  const MutexLock turn(resize_mutex_);
  plan_.slots_within(std::max(arena_bytes, plan_.min_bytes()), n_wanted_);
  MutexLock lock(mutex_);
  const auto n_before = stats_.n_slot;
  bool grown = false;
  for (size_t i = 0; i < classes_.size(); ++i) {
    const int32_t had = classes_[i].n_usable;
    set_usable(i, n_wanted_[i]);
    if (classes_[i].n_usable < had) gather(i);
    grown = grown || classes_[i].n_usable > had;
  }
  if (stats_.n_slot != n_before) ++stats_.resizes;
  if (grown) fill_from_the_first();
  changed_.notify_all();
  const uint64_t now_bytes = stats_.arena_bytes;
  const bool wake = grown && fills_ && std::exchange(io_sleeps_, false);
  lock.unlock();
  if (wake) reader_->wake();
  return now_bytes;
}

}  // namespace odmoe
