#include "train/training_data.h"

#include <torch/torch.h>

#include <algorithm>

namespace odmoe {
namespace {

// States divided by their root mean square.
torch::Tensor normalised(const torch::Tensor& states) {
  return states * torch::rsqrt(states.pow(2).mean(-1, true) + kShadowStateEps);
}

// A view of a shard's values.
torch::Tensor view(std::vector<uint16_t>& values, torch::IntArrayRef shape, torch::ScalarType type) {
  return torch::from_blob(values.data(), shape, torch::TensorOptions(type));
}

}  // namespace

uint64_t TrainingData::bytes(const Collection& collection, const ShadowSpec& spec, int32_t source) {
  uint64_t n_state = 1;
  if (source >= 0) {
    n_state = static_cast<uint64_t>(std::ranges::count(spec.inputs, ShadowInput::kRouter) +
                                    std::ranges::count(spec.inputs, ShadowInput::kAttention));
  }
  return 2 * n_state * static_cast<uint64_t>(collection.n_token) * static_cast<uint64_t>(spec.model.n_embd);
}

Result<TrainingData> TrainingData::load(const std::filesystem::path& folder, const Collection& collection,
                                        const ShadowSpec& spec, std::span<const int32_t> sources,
                                        const std::function<bool(size_t, size_t)>& progress) {
  TrainingData data;
  data.spec_ = spec;
  const auto n_layer = static_cast<int64_t>(spec.n_layer());
  const int64_t n_token = collection.n_token, n_embd = spec.model.n_embd, n_used = spec.model.n_expert_used;
  const bool router = std::ranges::contains(spec.inputs, ShadowInput::kRouter);
  const bool attention = std::ranges::contains(spec.inputs, ShadowInput::kAttention);
  data.experts_ = torch::empty({n_token, n_layer, n_used}, torch::kShort);
  data.begins_ = torch::empty({n_token}, torch::kBool);
  data.router_.resize(spec.n_layer());
  data.attention_.resize(spec.n_layer());
  for (const int32_t source : sources) {
    const auto make = [&] { return torch::empty({n_token, n_embd}, torch::kHalf); };
    if (source < 0) {
      data.embedding_ = make();
    } else {
      if (router) data.router_[static_cast<size_t>(source)] = make();
      if (attention) data.attention_[static_cast<size_t>(source)] = make();
    }
  }
  std::vector<int64_t> held_out, others;
  int64_t first = 0;
  for (size_t s = 0; s < collection.shards.size(); ++s) {
    if (progress && !progress(s, collection.shards.size()))
      return fail(ErrorKind::kInterrupted, "interrupted");
    ODMOE_ASSIGN_OR_RETURN(RoutingShard shard, read_shard(folder, collection, s));
    const int64_t n = shard.n_token;
    data.experts_.narrow(0, first, n).copy_(view(shard.experts, {n, n_layer, n_used}, torch::kShort));
    for (int64_t t = 0; t < n; ++t) {
      const auto i = static_cast<size_t>(t);
      data.begins_[first + t] = shard.position[i] == 0;
      (is_held_out(shard.document[i]) ? held_out : others).push_back(first + t);
    }
    const auto take = [&](std::vector<torch::Tensor>& states, std::vector<uint16_t>& values) {
      for (size_t layer = 0; layer < states.size(); ++layer) {
        if (!states[layer].defined()) continue;
        const torch::Tensor from = view(values, {n, n_layer, n_embd}, torch::kHalf);
        states[layer].narrow(0, first, n).copy_(from.select(1, static_cast<int64_t>(layer)));
      }
    };
    take(data.router_, shard.router_input);
    take(data.attention_, shard.attention_input);
    if (data.embedding_.defined()) {
      data.embedding_.narrow(0, first, n).copy_(view(shard.embedding, {n, n_embd}, torch::kHalf));
    }
    first += n;
  }
  data.held_out_ = torch::tensor(held_out, torch::kLong);
  data.others_ = torch::tensor(others, torch::kLong);
  return data;
}

torch::Tensor TrainingData::multi_hot(const torch::Tensor& tokens, int64_t layer) const {
  const torch::Tensor chosen = experts_.select(1, layer).index_select(0, tokens).to(torch::kLong);
  return torch::zeros({tokens.size(0), spec_.model.n_expert}).scatter_(1, chosen, 1.0);
}

torch::Tensor TrainingData::input(int32_t source, const torch::Tensor& tokens) const {
  if (source < 0) return normalised(embedding_.index_select(0, tokens).to(torch::kFloat));
  const auto layer = static_cast<size_t>(source);
  std::vector<torch::Tensor> parts;
  for (const ShadowInput input : spec_.inputs) {
    switch (input) {
      case ShadowInput::kRouter:
        parts.push_back(router_[layer].index_select(0, tokens).to(torch::kFloat));
        break;
      case ShadowInput::kAttention:
        parts.push_back(normalised(attention_[layer].index_select(0, tokens).to(torch::kFloat)));
        break;
      case ShadowInput::kExperts:
        parts.push_back(multi_hot(tokens, source));
        break;
      case ShadowInput::kPrevious: {
        const torch::Tensor follows =
            begins_.index_select(0, tokens).logical_not().to(torch::kFloat).unsqueeze(1);
        const torch::Tensor before = (tokens - 1).clamp_min(0);
        for (int32_t d = 1; d <= spec_.n_ahead(source); ++d) {
          parts.push_back(multi_hot(before, source + d) * follows);
        }
        break;
      }
    }
  }
  return torch::cat(parts, 1);
}

torch::Tensor TrainingData::target(int32_t source, const torch::Tensor& tokens) const {
  std::vector<torch::Tensor> layers;
  for (int32_t d = 1; d <= spec_.n_ahead(source); ++d) layers.push_back(multi_hot(tokens, source + d));
  return torch::stack(layers, 1);
}

}  // namespace odmoe
