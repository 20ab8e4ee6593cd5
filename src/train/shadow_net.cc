#include "train/shadow_net.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "odmoe/format.h"

namespace odmoe {
namespace {

torch::Tensor tensor_of(const std::vector<float>& values, torch::IntArrayRef shape) {
  return torch::from_blob(const_cast<float*>(values.data()), shape, torch::kFloat).clone();
}

// The stale gate of one source for all layers ahead, on its input as it is recorded: [n_output, n_input].
torch::Tensor stale_gate(const ShadowSpec& spec, std::span<const RouterWeights> routers, int32_t source) {
  const int64_t n_embd = spec.model.n_embd, n_expert = spec.model.n_expert;
  std::vector<torch::Tensor> rows;
  for (int32_t d = 1; d <= spec.n_ahead(source); ++d) {
    const RouterWeights& later = routers[static_cast<size_t>(source + d)];
    const torch::Tensor weight =
        tensor_of(later.weight, {n_expert, n_embd}) * tensor_of(later.norm, {n_embd});
    torch::Tensor row = torch::zeros({n_expert, spec.n_input(source)});
    int64_t at = 0;
    if (source < 0) {
      row.copy_(weight);
    } else if (const auto router = std::ranges::find(spec.inputs, ShadowInput::kRouter);
               router != spec.inputs.end()) {
      for (const ShadowInput* input = spec.inputs.data(); input != &*router; ++input) {
        ShadowSpec before = spec;
        before.inputs = {*input};
        at += before.n_input(source);
      }
      const torch::Tensor norm = tensor_of(routers[static_cast<size_t>(source)].norm, {n_embd});
      // A channel that this layer's norm shuts says nothing of the residual.
      const torch::Tensor inverse = torch::where(norm.abs() > 1e-6, 1 / norm, torch::zeros_like(norm));
      row.narrow(1, at, n_embd).copy_(weight * inverse);
    } else if (std::ranges::contains(spec.inputs, ShadowInput::kAttention)) {
      for (const ShadowInput input : spec.inputs) {
        if (input == ShadowInput::kAttention) break;
        ShadowSpec before = spec;
        before.inputs = {input};
        at += before.n_input(source);
      }
      row.narrow(1, at, n_embd).copy_(weight);
    }
    rows.push_back(row);
  }
  return torch::cat(rows, 0);
}

// What it adds where norms have biases, [n_output].
torch::Tensor stale_gate_bias(const ShadowSpec& spec, std::span<const RouterWeights> routers,
                              int32_t source) {
  const int64_t n_embd = spec.model.n_embd, n_expert = spec.model.n_expert;
  std::vector<torch::Tensor> rows;
  for (int32_t d = 1; d <= spec.n_ahead(source); ++d) {
    const RouterWeights& later = routers[static_cast<size_t>(source + d)];
    const bool from_router = source >= 0 && std::ranges::contains(spec.inputs, ShadowInput::kRouter);
    torch::Tensor added = torch::zeros({n_embd});
    if (!later.norm_bias.empty()) added = tensor_of(later.norm_bias, {n_embd});
    if (const std::vector<float>& bias = routers[static_cast<size_t>(std::max(source, 0))].norm_bias;
        from_router && !bias.empty()) {
      const torch::Tensor norm = tensor_of(routers[static_cast<size_t>(source)].norm, {n_embd});
      const torch::Tensor inverse = torch::where(norm.abs() > 1e-6, 1 / norm, torch::zeros_like(norm));
      added = added - tensor_of(bias, {n_embd}) * inverse * tensor_of(later.norm, {n_embd});
    }
    rows.push_back(torch::mv(tensor_of(later.weight, {n_expert, n_embd}), added));
  }
  return torch::cat(rows, 0);
}

}  // namespace

std::string source_prefix(int32_t source) {
  return source < 0 ? "embedding." : odmoe::format("layer.{}.", source);
}

std::string ShadowNet::trunk_of(int32_t source, int32_t k, const char* what) const {
  const bool shared = spec_.shared_trunk && source >= 0 && !(k == 1 && std::string_view(what) == "bias");
  return odmoe::format("{}trunk.{}.{}", shared ? "shared." : source_prefix(source), k, what);
}

ShadowNet::ShadowNet(const ShadowSpec& spec, std::span<const RouterWeights> routers,
                     std::span<const int32_t> sources, const std::vector<torch::Tensor>& scales)
    : spec_(spec), sources_(sources.begin(), sources.end()) {
  const torch::NoGradGuard no_gradient;
  const auto uniform = [](torch::IntArrayRef shape, int64_t n_input) {
    const double bound = 1 / std::sqrt(static_cast<double>(n_input));  // as torch::nn::Linear begins
    return torch::empty(shape).uniform_(-bound, bound);
  };
  const int64_t hidden = spec.hidden;
  for (size_t i = 0; i < sources.size(); ++i) {
    const int32_t source = sources[i];
    scales_[source] = scales[i];
    const std::string prefix = source_prefix(source);
    const int64_t n_input = spec.n_input(source);
    const int64_t n_output = int64_t{spec.n_ahead(source)} * spec.model.n_expert;
    for (int32_t k = 1; hidden > 0 && k <= spec.depth; ++k) {
      const int64_t n_in = k == 1 ? n_input : hidden;
      // A shared trunk's are made once: emplace() keeps what is there.
      parameters_.emplace(trunk_of(source, k, "weight"), uniform({hidden, n_in}, n_in));
      parameters_.emplace(trunk_of(source, k, "bias"), uniform({hidden}, n_in));
      parameters_.emplace(trunk_of(source, k, "norm.weight"), torch::ones({hidden}));
      parameters_.emplace(trunk_of(source, k, "norm.bias"), torch::zeros({hidden}));
    }
    if (hidden > 0) {
      parameters_[prefix + "heads.weight"] =
          spec.direct ? torch::zeros({n_output, hidden}) : uniform({n_output, hidden}, hidden);
    }
    parameters_[prefix + "heads.bias"] = torch::zeros({n_output});
    if (!spec.direct) continue;
    parameters_[prefix + "heads.bias"] = stale_gate_bias(spec, routers, source);
    const torch::Tensor direct = stale_gate(spec, routers, source) / scales[i];
    if (spec.direct_rank == 0) {
      parameters_[prefix + "direct.weight"] = direct;
      continue;
    }
    // The best of its rank (Eckart and Young, 1936), on inputs that are about alike; what is beyond its rank
    // begins at random, small enough to change little.
    const auto [u, s, vt] = torch::linalg_svd(direct, false);
    const int64_t rank = std::min(int64_t{spec.direct_rank}, s.size(0));
    const torch::Tensor root = s.narrow(0, 0, rank).sqrt();
    torch::Tensor up = torch::zeros({n_output, spec.direct_rank});
    torch::Tensor down = 0.01 * uniform({spec.direct_rank, n_input}, n_input);
    up.narrow(1, 0, rank).copy_(u.narrow(1, 0, rank) * root);
    down.narrow(0, 0, rank).copy_(vt.narrow(0, 0, rank) * root.unsqueeze(1));
    parameters_[prefix + "direct_up.weight"] = up;
    parameters_[prefix + "direct_down.weight"] = down;
  }
  for (auto& [name, parameter] : parameters_) parameter.set_requires_grad(true);
}

void ShadowNet::calibrate(int32_t source, const torch::Tensor& input, const torch::Tensor& rate) {
  const torch::NoGradGuard no_gradient;
  const torch::Tensor p = rate.clamp(1e-4, 1 - 1e-4);
  const torch::Tensor wanted = torch::log(p / (1 - p));
  torch::Tensor& bias = parameters_.at(source_prefix(source) + "heads.bias");
  bias += (wanted - forward(source, input).mean(0)).flatten();
}

torch::Tensor ShadowNet::forward(int32_t source, const torch::Tensor& input, double dropout) const {
  const std::string prefix = source_prefix(source);
  const torch::Tensor x = input * scales_.at(source);
  torch::Tensor score = at(prefix + "heads.bias");
  if (spec_.hidden > 0) {
    torch::Tensor h = x;
    for (int32_t k = 1; k <= spec_.depth; ++k) {
      h = torch::linear(h, at(trunk_of(source, k, "weight")), at(trunk_of(source, k, "bias")));
      h = torch::layer_norm(h, {spec_.hidden}, at(trunk_of(source, k, "norm.weight")),
                            at(trunk_of(source, k, "norm.bias")), kShadowNormEps);
      h = torch::silu(h);
      if (dropout > 0) h = torch::dropout(h, dropout, true);
    }
    score = score + torch::linear(h, at(prefix + "heads.weight"));
  }
  if (spec_.direct && spec_.direct_rank == 0) {
    score = score + torch::linear(x, at(prefix + "direct.weight"));
  } else if (spec_.direct) {
    score = score + torch::linear(torch::linear(x, at(prefix + "direct_down.weight")),
                                  at(prefix + "direct_up.weight"));
  }
  return score.view({input.size(0), spec_.n_ahead(source), spec_.model.n_expert});
}

std::map<std::string, torch::Tensor> ShadowNet::export_weights() const {
  const torch::NoGradGuard no_gradient;
  std::map<std::string, torch::Tensor> weights;
  for (const auto& [name, parameter] : parameters_) weights[name] = parameter.detach().clone();
  for (const int32_t source : sources_) {
    const std::string prefix = source_prefix(source);
    if (spec_.shared_trunk && source >= 0 && spec_.hidden > 0) {
      weights[prefix + "input_scale"] = scales_.at(source).clone();
    }
    for (const char* name : {"trunk.1.weight", "direct.weight", "direct_down.weight"}) {
      const auto weight = weights.find(prefix + name);
      if (weight != weights.end()) weight->second *= scales_.at(source);
    }
  }
  return weights;
}

}  // namespace odmoe
