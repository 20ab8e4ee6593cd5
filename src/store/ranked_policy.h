// What the policies have in common that put all members in one order, whatever their layer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "store/residency_policy.h"

namespace odmoe {

// Evicts the member of least rank; of equals, the one that was used longest ago.  With Reach::kShare a layer
// that has its (equal) share pays for itself, and one that has not takes from the layer most above its own.
// A decision costs a step for every layer, and for a layer that changed since the last one a pass over its
// experts.
class RankedPolicy : public ResidencyPolicy {
 public:
  void admit(ExpertKey key) override;
  void admit_unasked(ExpertKey key) override;
  void remove(ExpertKey key) override;
  void use(ExpertKey key) override;
  void set_held(ExpertKey key, bool held) override;
  std::optional<ExpertKey> victim(int layer, Reach reach) override;
  void resize(int32_t n_slot) override;
  int32_t n_member(int layer) const override { return layers_[index_of(layer)].n_member; }
  int32_t share(int layer) const override { return shares_[index_of(layer)]; }
  bool keeps_free_slots() const override { return false; }

 protected:
  RankedPolicy(std::span<const PolicyLayer> layers, int32_t n_slot);

  // Ranks are compared within a layer as they are, and between layers by this, which must not change their
  // order.
  virtual double value(size_t index, double rank) const {
    (void)index;
    return rank;
  }

  size_t n_layer() const { return layers_.size(); }
  size_t index_of(int layer) const { return static_cast<size_t>(index_[static_cast<size_t>(layer)]); }
  // Of an expert among all; those of a layer follow each other.
  size_t node_of(ExpertKey key) const {
    return layers_[index_of(key.layer)].first + static_cast<size_t>(key.expert);
  }
  size_t n_node() const { return nodes_.size(); }
  int32_t n_expert(size_t index) const { return n_expert_[index]; }
  bool is_member(size_t node) const { return nodes_[node].member; }
  double rank(size_t node) const { return nodes_[node].rank; }
  void set_rank(size_t index, size_t node, double rank) {
    nodes_[node].rank = rank;
    layers_[index].known = false;
  }
  uint64_t clock() const { return clock_; }

 private:
  struct Node {
    double rank = 0;
    uint64_t used = 0;
    bool member = false, held = false;
  };
  struct Layer {
    int layer = 0;
    size_t first = 0;
    int32_t n_member = 0;
    int32_t worst = -1;  // expert of least rank that is not held, -1: none; if known
    bool known = true;
  };

  int32_t worst_of(size_t index);
  ExpertKey key_of(size_t index, int32_t expert) const { return {layers_[index].layer, expert}; }

  std::vector<int32_t> index_;  // by layer
  std::vector<Layer> layers_;
  std::vector<int32_t> n_expert_, shares_;  // by index
  std::vector<Node> nodes_;
  uint64_t clock_ = 0;  // uses so far
};

}  // namespace odmoe
