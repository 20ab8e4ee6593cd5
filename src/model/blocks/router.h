// Which experts a token goes to, and with what weights.
//
// The router's matrix product is part of the graph; the choice is made here, on the host, because the host
// must know the experts before they can be read.  Order of operations: shared with llama.cpp's
// llm_graph_context::build_moe_ffn and the DeepSeek-V3 technical report (group-limited, bias-corrected
// top-k).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace odmoe {

// The least sum that weights are divided by: the smallest normal half-precision number, as llama.cpp clamps.
inline constexpr float kMinWeightSum = 6.103515625e-5F;

enum class Gating {
  kSoftmax,            // probabilities over all experts
  kSigmoid,            // independent scores
  kSoftmaxOverChosen,  // top-k of the logits, then softmax over the chosen
  kSqrtSoftplus,       // independent scores: the square root of log(1 + e^logit) (DeepSeek-V4)
  kSigmoidOfChosen,    // top-k of the logits, then the sigmoid of each (Llama 4)
};

// Whether experts are chosen by the logits themselves.
inline bool chooses_by_logits(Gating gating) {
  return gating == Gating::kSoftmaxOverChosen || gating == Gating::kSigmoidOfChosen;
}

struct RouterOptions {
  Gating gating = Gating::kSoftmax;
  int32_t n_expert = 0;
  int32_t n_expert_used = 0;  // top-k
  int32_t n_group = 1;        // experts lie in this many groups of equal size ...
  int32_t n_group_used = 1;   // ... of which only the best are eligible
  bool normalise = false;     // weights are divided by their sum
  float scale = 1;            // then multiplied by this; 0 and 1: not
};

// Routes tokens one by one.  One owner: it keeps scratch memory so that routing allocates nothing.
class Router {
 public:
  explicit Router(const RouterOptions& options);

  // logits: [n_expert].  bias: [n_expert], added for the choice only; empty: none.
  // ids, weights: [n_expert_used], best first; equal scores go to the lower expert number.
  // Returns the router's probabilities [n_expert], valid until the next call: what the softmax gave (for
  // kSoftmaxOverChosen a softmax over all), or independent scores divided by their sum.
  std::span<const float> route(std::span<const float> logits, std::span<const float> bias,
                               std::span<int32_t> ids, std::span<float> weights);

  // The same for experts that are chosen already: their weights, in the order of `ids`.
  std::span<const float> route_to(std::span<const float> logits, std::span<const int32_t> ids,
                                  std::span<float> weights);

  // Of the last call, [n_expert]: by what the experts were chosen, higher first; -infinity in groups that
  // were not eligible.
  std::span<const float> selection() const { return selection_; }

  const RouterOptions& options() const { return options_; }

 private:
  void score(std::span<const float> logits, std::span<const float> bias);
  std::span<const float> weigh(std::span<const float> logits, std::span<const int32_t> ids,
                               std::span<float> weights);

  RouterOptions options_;
  std::vector<float> probabilities_, selection_, group_scores_;
  std::vector<int32_t> order_, groups_;
};

}  // namespace odmoe
