#include "convert/expert_order.h"

#include <algorithm>
#include <format>
#include <map>
#include <utility>

#include "convert/conversion_plan.h"

namespace odmoe {
namespace {

// How often two experts of a layer were chosen for the same token; on the diagonal, how often one was.
class Together {
 public:
  explicit Together(int n_expert)
      : n_expert_(static_cast<size_t>(n_expert)), counts_(n_expert_ * n_expert_) {}

  void add(std::span<const int32_t> experts) {
    for (const int32_t a : experts) {
      for (const int32_t b : experts) ++counts_[static_cast<size_t>(a) * n_expert_ + static_cast<size_t>(b)];
    }
    any_ = any_ || !experts.empty();
  }

  std::vector<int32_t> order() const {
    std::vector<int32_t> order;
    if (!any_) return order;
    std::vector<uint64_t> near(n_expert_);  // to the last few
    std::vector<bool> placed(n_expert_);
    while (order.size() < n_expert_) {
      size_t best = n_expert_;
      for (size_t i = 0; i < n_expert_; ++i) {
        if (placed[i]) continue;
        const auto rank = [&](size_t e) { return std::pair(near[e], at(e, e)); };
        if (best == n_expert_ || rank(i) > rank(best)) best = i;
      }
      placed[best] = true;
      order.push_back(static_cast<int32_t>(best));
      for (size_t i = 0; i < n_expert_; ++i) {
        near[i] += at(best, i);
        if (order.size() > kNeighbours)
          near[i] -= at(static_cast<size_t>(order[order.size() - 1 - kNeighbours]), i);
      }
    }
    return order;
  }

 private:
  uint64_t at(size_t a, size_t b) const { return counts_[a * n_expert_ + b]; }

  size_t n_expert_;
  std::vector<uint32_t> counts_;
  bool any_ = false;
};

}  // namespace

Result<std::vector<std::vector<int32_t>>> order_by_trace(const RoutingTrace& trace,
                                                         const TensorSource& source) {
  std::map<int, int64_t> n_expert;  // by layer that has experts
  for (const TensorSource::Tensor& tensor : source.tensors()) {
    const auto name = parse_stack_name(tensor.name);
    if (name && name->part == StackPart::kDown) n_expert[name->layer] = tensor.ne[2];
  }
  // A trace counts the layers that have experts, or all.
  std::vector<int> layer_of;
  const int n_layer = n_expert.empty() ? 0 : n_expert.rbegin()->first + 1;
  if (trace.n_layer == static_cast<int>(n_expert.size())) {
    for (const auto& [layer, count] : n_expert) layer_of.push_back(layer);
  } else if (trace.n_layer == n_layer) {
    for (int layer = 0; layer < n_layer; ++layer) layer_of.push_back(layer);
  } else {
    return fail(ErrorKind::kUsage,
                "the trace is of a model with {} layers and not {}: record one of this model", trace.n_layer,
                n_expert.size());
  }
  std::map<int, Together> together;
  for (const RoutingTrace::Event& event : trace.events) {
    const int layer = layer_of[static_cast<size_t>(event.layer)];
    const auto experts = n_expert.find(layer);
    if (experts == n_expert.end()) continue;
    if (experts->second != trace.n_expert) {
      return fail(ErrorKind::kUsage,
                  "the trace is of a model with {} experts a layer and not {}: record one of this model",
                  trace.n_expert, experts->second);
    }
    together.try_emplace(layer, trace.n_expert).first->second.add(trace.experts_of(event));
  }
  std::vector<std::vector<int32_t>> orders(static_cast<size_t>(n_layer));
  for (const auto& [layer, counts] : together) orders[static_cast<size_t>(layer)] = counts.order();
  return orders;
}

}  // namespace odmoe
