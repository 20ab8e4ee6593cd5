// The parameters of some sources of a shadow model while they are trained.
#pragma once

#include <torch/types.h>

#include <map>
#include <span>
#include <string>
#include <vector>

#include "predict/routing_data.h"
#include "predict/shadow_format.h"

namespace odmoe {

// Parameters by the names of the file (shadow_format.h), f32.  Inside, every input is multiplied by a scale
// of its own first, so that all are about as large; export_weights() puts it into the weights.  One owner.
class ShadowNet {
 public:
  // Random parameters, from torch's generator; heads that add nothing where there is a direct part, and a
  // direct part that is the stale gate: the later layer's router on this layer's state, with the later norm.
  // scales: [n_input] for each source.
  ShadowNet(const ShadowSpec& spec, std::span<const RouterWeights> routers, std::span<const int32_t> sources,
            const std::vector<torch::Tensor>& scales);

  // The bias of the heads such that the scores' mean over `input` [n, n_input] is the log-odds of how often
  // each expert is chosen, `rate` [n_ahead, n_expert].
  void calibrate(int32_t source, const torch::Tensor& input, const torch::Tensor& rate);

  // [n, n_input] -> [n, n_ahead, n_expert].  dropout: of hidden units; 0 where nothing is trained.
  torch::Tensor forward(int32_t source, const torch::Tensor& input, double dropout = 0) const;

  std::map<std::string, torch::Tensor>& parameters() { return parameters_; }
  // What the file holds.
  std::map<std::string, torch::Tensor> export_weights() const;

 private:
  const torch::Tensor& at(const std::string& name) const { return parameters_.at(name); }
  std::string trunk_of(int32_t source, int32_t k, const char* what) const;

  ShadowSpec spec_;
  std::vector<int32_t> sources_;
  std::map<int32_t, torch::Tensor> scales_;
  std::map<std::string, torch::Tensor> parameters_;
};

// "layer.3." or "embedding."
std::string source_prefix(int32_t source);

}  // namespace odmoe
