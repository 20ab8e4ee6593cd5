#include "store/ranked_policy.h"

#include <algorithm>
#include <cassert>

namespace odmoe {

RankedPolicy::RankedPolicy(std::span<const PolicyLayer> layers, int32_t n_slot) : shares_(layers.size()) {
  int last_layer = -1;
  for (const PolicyLayer& layer : layers) last_layer = std::max(last_layer, layer.layer);
  index_.assign(static_cast<size_t>(last_layer) + 1, -1);
  size_t n_node = 0;
  for (const PolicyLayer& layer : layers) {
    index_[static_cast<size_t>(layer.layer)] = static_cast<int32_t>(layers_.size());
    layers_.push_back({.layer = layer.layer, .first = n_node});
    n_expert_.push_back(layer.n_expert);
    n_node += static_cast<size_t>(layer.n_expert);
  }
  nodes_.resize(n_node);
  share_equally(n_expert_, n_slot, shares_);
}

void RankedPolicy::resize(int32_t n_slot) { share_equally(n_expert_, n_slot, shares_); }

void RankedPolicy::admit(ExpertKey key) {
  Node& node = nodes_[node_of(key)];
  assert(!node.member);
  node.member = true;
  node.held = true;
  node.used = ++clock_;
  Layer& layer = layers_[index_of(key.layer)];
  ++layer.n_member;
  layer.known = false;
}

void RankedPolicy::admit_unasked(ExpertKey key) {
  admit(key);
  nodes_[node_of(key)].used = 0;
}

void RankedPolicy::remove(ExpertKey key) {
  Node& node = nodes_[node_of(key)];
  assert(node.member);
  node.member = false;
  Layer& layer = layers_[index_of(key.layer)];
  --layer.n_member;
  layer.known = false;
}

void RankedPolicy::use(ExpertKey key) {
  Node& node = nodes_[node_of(key)];
  assert(node.member);
  node.used = ++clock_;
  layers_[index_of(key.layer)].known = false;
}

void RankedPolicy::set_held(ExpertKey key, bool held) {
  nodes_[node_of(key)].held = held;
  layers_[index_of(key.layer)].known = false;
}

int32_t RankedPolicy::worst_of(size_t index) {
  Layer& layer = layers_[index];
  if (layer.known) return layer.worst;
  layer.known = true;
  layer.worst = -1;
  const std::span<const Node> nodes =
      std::span(nodes_).subspan(layer.first, static_cast<size_t>(n_expert_[index]));
  const Node* worst = nullptr;
  for (const Node& node : nodes) {
    if (!node.member || node.held) continue;
    if (worst == nullptr || node.rank < worst->rank ||
        (node.rank == worst->rank && node.used < worst->used)) {
      worst = &node;
    }
  }
  if (worst != nullptr) layer.worst = static_cast<int32_t>(worst - nodes.data());
  return layer.worst;
}

std::optional<ExpertKey> RankedPolicy::victim(int layer, Reach reach) {
  const size_t own = index_of(layer);
  const size_t count = layers_.size();
  size_t found = count;
  if (reach == Reach::kBorrow) {
    double least = 0;
    uint64_t used = 0;
    for (size_t i = 0; i < count; ++i) {
      const int32_t expert = worst_of(i);
      if (expert < 0) continue;
      const Node& node = nodes_[layers_[i].first + static_cast<size_t>(expert)];
      const double value = this->value(i, node.rank);
      if (found != count && (value > least || (value == least && node.used >= used))) continue;
      found = i;
      least = value;
      used = node.used;
    }
  } else {
    if (layers_[own].n_member < shares_[own]) {
      int32_t most = 0;
      for (size_t i = 0; i < count; ++i) {
        const int32_t excess = layers_[i].n_member - shares_[i];
        if (excess <= most || worst_of(i) < 0) continue;
        most = excess;
        found = i;
      }
    }
    if (found == count && worst_of(own) >= 0) found = own;
  }
  if (found == count) return std::nullopt;
  return key_of(found, layers_[found].worst);
}

}  // namespace odmoe
