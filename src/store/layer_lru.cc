#include <algorithm>
#include <cassert>
#include <vector>

#include "store/residency_policy.h"

namespace odmoe {
namespace {

class LayerLru final : public ResidencyPolicy {
 public:
  LayerLru(std::span<const PolicyLayer> layers, int32_t n_slot) {
    int last_layer = -1;
    for (const PolicyLayer& layer : layers) last_layer = std::max(last_layer, layer.layer);
    index_.assign(static_cast<size_t>(last_layer) + 1, -1);
    for (const PolicyLayer& layer : layers) {
      index_[static_cast<size_t>(layer.layer)] = static_cast<int32_t>(lists_.size());
      lists_.push_back({.layer = layer.layer,
                        .n_expert = layer.n_expert,
                        .first_node = static_cast<int32_t>(nodes_.size())});
      nodes_.resize(nodes_.size() + static_cast<size_t>(layer.n_expert));
    }
    for (const List& list : lists_) n_expert_.push_back(list.n_expert);
    shares_.resize(lists_.size());
    LayerLru::resize(n_slot);
  }

  void resize(int32_t n_slot) override {
    share_equally(n_expert_, n_slot, shares_);
    for (size_t i = 0; i < lists_.size(); ++i) lists_[i].share = shares_[i];
  }

  void admit(ExpertKey key) override {
    List& list = list_of(key.layer);
    Node& node = nodes_[node_of(key)];
    assert(!node.member);
    node.member = true;
    node.held = true;
    ++list.n_member;
    append(list, static_cast<int32_t>(node_of(key)));
  }

  void admit_unasked(ExpertKey key) override {
    List& list = list_of(key.layer);
    admit(key);
    const auto node = static_cast<int32_t>(node_of(key));
    unlink(list, node);
    prepend(list, node);
  }

  void remove(ExpertKey key) override {
    List& list = list_of(key.layer);
    Node& node = nodes_[node_of(key)];
    assert(node.member);
    unlink(list, static_cast<int32_t>(node_of(key)));
    node.member = false;
    --list.n_member;
  }

  void use(ExpertKey key) override {
    List& list = list_of(key.layer);
    const auto node = static_cast<int32_t>(node_of(key));
    assert(nodes_[static_cast<size_t>(node)].member);
    unlink(list, node);
    append(list, node);
  }

  void set_held(ExpertKey key, bool held) override { nodes_[node_of(key)].held = held; }

  std::optional<ExpertKey> victim(int layer, Reach reach) override {
    const List& own = list_of(layer);
    const int32_t own_oldest = oldest(own);
    const bool has_share = own.n_member >= own.share;
    if (has_share && own_oldest >= 0) return key_of(own, own_oldest);

    // Backwards from this layer: among equals, the one whose turn is farthest away.
    const size_t n_list = lists_.size();
    const auto own_index = static_cast<size_t>(&own - lists_.data());
    const auto before = [&](size_t steps) -> const List& {
      return lists_[(own_index + n_list - steps) % n_list];
    };
    if (!has_share || reach == Reach::kBorrow) {
      const List* richest = nullptr;
      int32_t node = -1;
      for (size_t steps = 1; steps < n_list; ++steps) {
        const List& list = before(steps);
        const int32_t excess = list.n_member - list.share;
        if (excess <= 0 || (richest != nullptr && excess <= richest->n_member - richest->share)) continue;
        if (const int32_t candidate = oldest(list); candidate >= 0) {
          richest = &list;
          node = candidate;
        }
      }
      if (richest != nullptr) return key_of(*richest, node);
    }
    if (own_oldest >= 0) return key_of(own, own_oldest);

    if (reach != Reach::kBorrow) return std::nullopt;
    for (size_t steps = 1; steps < n_list; ++steps) {
      if (const int32_t node = oldest(before(steps)); node >= 0) return key_of(before(steps), node);
    }
    return std::nullopt;
  }

  int32_t n_member(int layer) const override { return list_of(layer).n_member; }
  int32_t share(int layer) const override { return list_of(layer).share; }
  bool keeps_free_slots() const override { return true; }

 private:
  // A member is in the list of its layer, oldest use first, held or not; others are in none.
  struct Node {
    int32_t before = -1, after = -1;
    bool member = false, held = false;
  };
  struct List {
    int layer = 0;
    int32_t n_expert = 0;
    int32_t first_node = 0;
    int32_t n_member = 0, share = 0;
    int32_t first = -1, last = -1;
  };

  const List& list_of(int layer) const {
    return lists_[static_cast<size_t>(index_[static_cast<size_t>(layer)])];
  }
  List& list_of(int layer) { return lists_[static_cast<size_t>(index_[static_cast<size_t>(layer)])]; }
  size_t node_of(ExpertKey key) const {
    return static_cast<size_t>(list_of(key.layer).first_node) + static_cast<size_t>(key.expert);
  }
  const Node& node_at(int32_t node) const { return nodes_[static_cast<size_t>(node)]; }
  Node& node_at(int32_t node) { return nodes_[static_cast<size_t>(node)]; }
  static ExpertKey key_of(const List& list, int32_t node) { return {list.layer, node - list.first_node}; }

  // The least recently used member that is not held.  Held ones are few or recent, so the walk is short.
  int32_t oldest(const List& list) const {
    int32_t node = list.first;
    while (node >= 0 && node_at(node).held) node = node_at(node).after;
    return node;
  }

  void append(List& list, int32_t node) {
    node_at(node).before = list.last;
    node_at(node).after = -1;
    (list.last >= 0 ? node_at(list.last).after : list.first) = node;
    list.last = node;
  }

  void prepend(List& list, int32_t node) {
    node_at(node).before = -1;
    node_at(node).after = list.first;
    (list.first >= 0 ? node_at(list.first).before : list.last) = node;
    list.first = node;
  }

  void unlink(List& list, int32_t node) {
    const Node& gone = node_at(node);
    (gone.before >= 0 ? node_at(gone.before).after : list.first) = gone.after;
    (gone.after >= 0 ? node_at(gone.after).before : list.last) = gone.before;
  }

  std::vector<int32_t> index_;  // of the list, by layer
  std::vector<List> lists_;
  std::vector<int32_t> n_expert_, shares_;  // by list
  std::vector<Node> nodes_;                 // by list, then expert
};

}  // namespace

std::unique_ptr<ResidencyPolicy> make_layer_lru(std::span<const PolicyLayer> layers, int32_t n_slot) {
  return std::make_unique<LayerLru>(layers, n_slot);
}

}  // namespace odmoe
