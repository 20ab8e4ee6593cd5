#include "model/blocks/router.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace odmoe {
namespace {

void softmax(std::span<const float> in, std::span<float> out) {
  const float top = *std::ranges::max_element(in);
  double sum = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    out[i] = std::exp(in[i] - top);
    sum += static_cast<double>(out[i]);
  }
  const auto scale = static_cast<float>(1.0 / sum);
  for (float& value : out) value *= scale;
}

// Whether an expert's score is nobody else's business.
bool is_independent(Gating gating) {
  return gating != Gating::kSoftmax && gating != Gating::kSoftmaxOverChosen;
}

// In ggml's order, so that the bits are its own.
float independent_score(Gating gating, float logit) {
  if (gating != Gating::kSqrtSoftplus) return 1.0F / (1.0F + std::exp(-logit));
  return std::sqrt(logit > 20 ? logit : std::log(1.0F + std::exp(logit)));
}

// Best first; of equals the lower number.
auto by_score(const std::vector<float>& scores) {
  return [&scores](int32_t a, int32_t b) {
    const float x = scores[static_cast<size_t>(a)];
    const float y = scores[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
}

}  // namespace

Router::Router(const RouterOptions& options)
    : options_(options),
      probabilities_(static_cast<size_t>(options.n_expert)),
      selection_(static_cast<size_t>(options.n_expert)),
      group_scores_(static_cast<size_t>(options.n_group)),
      order_(static_cast<size_t>(options.n_expert)),
      groups_(static_cast<size_t>(options.n_group)) {}

void Router::score(std::span<const float> logits, std::span<const float> bias) {
  assert(logits.size() == probabilities_.size());
  if (is_independent(options_.gating)) {
    for (size_t e = 0; e < logits.size(); ++e) {
      probabilities_[e] = independent_score(options_.gating, logits[e]);
    }
  } else {
    softmax(logits, probabilities_);
  }
  for (size_t e = 0; e < logits.size(); ++e) {
    const float score = chooses_by_logits(options_.gating) ? logits[e] : probabilities_[e];
    selection_[e] = bias.empty() ? score : score + bias[e];
    // A damaged model may give NaN, which has no order: such an expert is chosen last.
    if (std::isnan(selection_[e])) selection_[e] = -std::numeric_limits<float>::infinity();
  }
}

std::span<const float> Router::route(std::span<const float> logits, std::span<const float> bias,
                                     std::span<int32_t> ids, std::span<float> weights) {
  assert(bias.empty() || bias.size() == logits.size());
  score(logits, bias);
  if (options_.n_group > 1) {
    const size_t group_size = logits.size() / group_scores_.size();
    for (size_t g = 0; g < group_scores_.size(); ++g) {
      float best = -std::numeric_limits<float>::infinity();
      float second = best;
      for (size_t e = g * group_size; e < (g + 1) * group_size; ++e) {
        if (selection_[e] > best) {
          second = std::exchange(best, selection_[e]);
        } else {
          second = std::max(second, selection_[e]);
        }
      }
      group_scores_[g] = group_size > 1 ? best + second : best;
    }
    std::iota(groups_.begin(), groups_.end(), 0);
    std::ranges::sort(groups_, by_score(group_scores_));
    for (size_t i = static_cast<size_t>(options_.n_group_used); i < groups_.size(); ++i) {
      const auto first =
          selection_.begin() + static_cast<ptrdiff_t>(groups_[i]) * static_cast<ptrdiff_t>(group_size);
      std::fill(first, first + static_cast<ptrdiff_t>(group_size), -std::numeric_limits<float>::infinity());
    }
  }

  std::iota(order_.begin(), order_.end(), 0);
  std::ranges::partial_sort(order_, order_.begin() + options_.n_expert_used, by_score(selection_));
  std::copy_n(order_.begin(), ids.size(), ids.begin());
  return weigh(logits, ids, weights);
}

std::span<const float> Router::route_to(std::span<const float> logits, std::span<const int32_t> ids,
                                        std::span<float> weights) {
  score(logits, {});
  return weigh(logits, ids, weights);
}

std::span<const float> Router::weigh(std::span<const float> logits, std::span<const int32_t> ids,
                                     std::span<float> weights) {
  assert(std::cmp_equal(ids.size(), options_.n_expert_used) && weights.size() == ids.size());
  if (options_.gating == Gating::kSoftmaxOverChosen) {
    for (size_t r = 0; r < ids.size(); ++r) weights[r] = logits[static_cast<size_t>(ids[r])];
    softmax(weights, weights);
  } else {
    for (size_t r = 0; r < ids.size(); ++r) weights[r] = probabilities_[static_cast<size_t>(ids[r])];
  }
  if (options_.normalise) {
    float sum = 0;
    for (const float weight : weights) sum += weight;
    sum = std::max(sum, kMinWeightSum);
    for (float& weight : weights) weight /= sum;
  }
  if (options_.scale != 0.0F && options_.scale != 1.0F) {
    for (float& weight : weights) weight *= options_.scale;
  }

  if (is_independent(options_.gating)) {
    float sum = 0;
    for (const float p : probabilities_) sum += p;
    if (sum > 0) {
      for (float& p : probabilities_) p /= sum;
    }
  }
  return probabilities_;
}

}  // namespace odmoe
