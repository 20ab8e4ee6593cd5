// A collection in memory, as tensors.
#pragma once

#include <torch/types.h>

#include <filesystem>
#include <functional>
#include <vector>

#include "odmoe/result.h"
#include "predict/routing_data.h"
#include "predict/shadow_format.h"

namespace odmoe {

// The tokens of a collection with the states of some sources (shadow_format.h).  One owner.
class TrainingData {
 public:
  // Reads every shard.  `progress` gets shards read and all; false stops with kInterrupted.
  static Result<TrainingData> load(const std::filesystem::path& folder, const Collection& collection,
                                   const ShadowSpec& spec, std::span<const int32_t> sources,
                                   const std::function<bool(size_t, size_t)>& progress);

  // Bytes of states that one source takes.
  static uint64_t bytes(const Collection& collection, const ShadowSpec& spec, int32_t source);

  int64_t n_token() const { return experts_.size(0); }
  // i64 token numbers: documents that are held out (predict/routing_data.h), and the others.
  torch::Tensor held_out() const { return held_out_; }
  torch::Tensor others() const { return others_; }
  torch::Tensor all() const { return torch::arange(n_token(), torch::kLong); }

  // f32 [tokens, n_input]: a source's input for some tokens (i64).
  torch::Tensor input(int32_t source, const torch::Tensor& tokens) const;
  // f32 [tokens, n_ahead, n_expert]: 1 where the expert is chosen.
  torch::Tensor target(int32_t source, const torch::Tensor& tokens) const;

 private:
  torch::Tensor multi_hot(const torch::Tensor& tokens, int64_t layer) const;

  ShadowSpec spec_;
  torch::Tensor experts_;  // i16 [n_token, n_layer, n_expert_used]
  torch::Tensor begins_;   // bool [n_token]: the first of a document
  torch::Tensor held_out_, others_;
  torch::Tensor embedding_;                        // f16 [n_token, n_embd], or none
  std::vector<torch::Tensor> router_, attention_;  // f16 [n_token, n_embd] by layer, or none
};

}  // namespace odmoe
