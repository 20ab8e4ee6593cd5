// Who gives up a slot: the decision alone, without slots, reads or locks, so that a simulator can run the
// same code as the store.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "format/expert_source.h"
#include "odmoe/options.h"

namespace odmoe {

// How far a layer may go for a slot.
enum class Reach : uint8_t {
  kShare,   // its own slots, and those that others have beyond their share while it is below its own
  kBorrow,  // any slot: what a token wants now, or is likely to want at once
};

// Bookkeeping of one class of slots.  Every expert that owns a slot is a *member*; a member that is *held*
// (leased or still loading) is never a victim.  Deterministic: the same calls give the same victims.  Nothing
// allocates after construction.  One owner.
class ResidencyPolicy {
 public:
  virtual ~ResidencyPolicy() = default;

  virtual void admit(ExpertKey key) = 0;  // becomes a member, held
  virtual void admit_unasked(
      ExpertKey key) = 0;                  // likewise, for want of a better one: of equals the first to go
  virtual void remove(ExpertKey key) = 0;  // is no member any more
  virtual void use(ExpertKey key) = 0;     // a member was leased
  virtual void hint(ExpertKey key) { use(key); }  // a member is expected to be leased soon
  virtual void set_held(ExpertKey key, bool held) = 0;

  // Evidence: what the router chose in a layer, members or not, before any of it is asked for.  `experts` and
  // `weights` (the router's, of any scale) are [n_expert_used, n_token]; a single token may have fewer.
  virtual void observe(int layer, std::span<const int32_t> experts, std::span<const float> weights) {
    (void)layer, (void)experts, (void)weights;
  }

  // Whom to evict for an expert of `layer`; nothing when all within reach are held.
  virtual std::optional<ExpertKey> victim(int layer, Reach reach) = 0;

  // From now on the class has this many slots: shares change, members do not.  Whoever calls it evicts
  // victims of layers above their new share until the members fit.
  virtual void resize(int32_t n_slot) = 0;

  virtual int32_t n_member(int layer) const = 0;
  // Slots that the layer is entitled to; all shares together are all slots.
  virtual int32_t share(int layer) const = 0;
  // Whether a free slot is kept for the layers that are below their share while this one has its own.
  virtual bool keeps_free_slots() const = 0;
};

struct PolicyLayer {
  int layer = 0;
  int32_t n_expert = 0;
};

// `layers` in the order in which tokens go through them.
std::unique_ptr<ResidencyPolicy> make_policy(PolicyKind kind, std::span<const PolicyLayer> layers,
                                             int32_t n_slot, int32_t n_expert_used);

// Whether an expert of `layer` takes a free slot, if there is one, before it takes a victim's.
bool takes_free_slot(const ResidencyPolicy& policy, int layer, Reach reach, int32_t n_expert_used);

// One slot each in turn; none gets more than it has experts.
void share_equally(std::span<const int32_t> n_expert, int32_t n_slot, std::span<int32_t> shares);

// Least recently used within the layer, and an equal share of the slots for every layer, so that no layer can
// push another below its share and a budget smaller than one token's cycle through the layers still hits.
// For an expert of a layer, the first that is not held of:
//   1. the layer's own least recently used, if it has its share;
//   2. the least recently used of the layer most above its share, if this layer is below its own or borrows;
//   3. the layer's own least recently used;
//   4. if it borrows, the least recently used of the layer whose turn is farthest away: the one before it,
//   and so
//      on backwards, since tokens go through the layers in order.  The least recently used of all layers
//      would be of the layer whose turn is next, and a small budget would never hit.
std::unique_ptr<ResidencyPolicy> make_layer_lru(std::span<const PolicyLayer> layers, int32_t n_slot);

}  // namespace odmoe
