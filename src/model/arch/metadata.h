// ARCH.* metadata with limits: what a family's create function reads its hyperparameters with.  What it reads
// is in the account; a key that no family's code asks for is judged by model/left_over.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "format/account.h"
#include "model/blocks/rope.h"
#include "model/shape.h"
#include "odmoe/result.h"

namespace odmoe {

// No published model comes near it, so that a damaged header cannot ask for absurd work.
inline constexpr int32_t kMaxHeads = 4096;

class Metadata {
 public:
  Metadata(Account& account, std::string_view arch) : account_(&account), arch_(arch) {}

  Account& account() const { return *account_; }
  const Checkpoint& file() const { return account_->file(); }
  const std::string& arch() const { return arch_; }
  std::string key(std::string_view name) const { return arch_ + "." + std::string(name); }
  bool has(std::string_view name) const { return account_->has(key(name)); }

  // An integer from `least` to `most`; anything else is kBadFile with the range.
  Result<int32_t> integer(std::string_view name, int32_t least, int32_t most) const;
  Result<int32_t> integer_or(std::string_view name, int32_t otherwise, int32_t least, int32_t most) const;
  Result<float> number(std::string_view name) const;
  Result<float> number_or(std::string_view name, float otherwise) const;
  // Above 0; anything else is kBadFile.
  Result<float> positive(std::string_view name) const;
  Result<float> positive_or(std::string_view name, float otherwise) const;
  Result<bool> boolean_or(std::string_view name, bool otherwise) const;

  // A number for each of n layers: an array of at least as many (those of blocks for speculation come last),
  // or one number for all.
  Result<std::vector<int32_t>> integers(std::string_view name, int32_t n, int32_t least, int32_t most) const;

  // A number for each of n layers, not negative: an array of at least as many, or one number for all.  Empty
  // where there is no such key.
  Result<std::vector<float>> numbers(std::string_view name, int32_t n) const;
  // True or false for each of n layers, as booleans or 0 and 1: an array of at least as many.
  Result<std::vector<bool>> flags(std::string_view name, int32_t n) const;

  // A factor: any number but 0, which means 1, as an absent key does.
  Result<float> factor_or_one(std::string_view name) const;

 private:
  Account* account_;
  std::string arch_;
};

// Who says how a family chooses its experts.
enum class Says {
  kFile,    // a key, and the family's default where there is none
  kKey,     // a key, without which a file is bad
  kFamily,  // the graph knows nothing else: a key that says otherwise is refused
};

// Which layers have experts.
enum class ExpertLayers {
  kBehindLead,   // all but the first leading_dense_block_count
  kInterleaved,  // of those behind the lead every interleave_moe_layer_step-th
  kWithRouter,   // from the first that has a router on: no key says it
  kAnyRouter,    // all that have a router: no key says it
  // A layer is one thing: experts where feed_forward_length is above 0, else attention or what is in its
  // place.
  kAlone,
};

// What a family does, and what its files say of it.
struct FamilyRules {
  NormKind norm = NormKind::kRms;  // which also says which key has the epsilon
  ExpertLayers expert_layers = ExpertLayers::kBehindLead;
  Gating gating = Gating::kSoftmax;
  Says gating_says = Says::kFile;
  bool normalise = false;
  Says normalise_says = Says::kFile;
  bool scales = false;              // expert_weights_scale is read; else another than 1 is refused
  std::string_view selection_bias;  // ModelShape::selection_bias
  float yarn_beta_fast = 32;        // RopeOptions::beta_fast
  // attention.head_count_kv and feed_forward_length may be by layer; 0: the layer has none.
  bool by_layer = false;
  // attention.head_count and head_count_kv may be by layer (arch/windowed_model.h): ModelShape has the most.
  bool heads_by_layer = false;
  bool own_value_length = false;  // values may have another length than keys
};

// The selection bias of most families that have one.
inline constexpr std::string_view kSelectionBias = "exp_probs_b.bias";

// What every family's metadata has: layers, embedding, heads, context, vocabulary, norm, experts and how they
// are chosen (no groups unless the file says otherwise).
Result<ModelShape> read_shape(const Metadata& metadata, const FamilyRules& rules);

// Layers whose attention.head_count_kv is 0: they have something else in the place of attention.
Result<std::vector<bool>> read_recurrent_layers(const Metadata& metadata, const ModelShape& shape);

// Layers that have something else in the place of attention: attention.recurrent_layers, or without it all
// but every full_attention_interval-th (`interval_or` where the file does not say it).
Result<std::vector<bool>> read_recurrent_interval(const Metadata& metadata, const ModelShape& shape,
                                                  int32_t interval_or);

// kUnsupported where the file scales RoPE, which the family does not know.
Status refuse_rope_scaling(const Metadata& metadata, const RopeOptions& rope);

// Of families whose attention is not told positions: nothing is rotated.  kUnsupported where the file scales
// what it has no use for.
Status forget_positions(const Metadata& metadata, RopeOptions& rope);

// The width of all shared experts together: expert_shared_count times that of a routed one.
Result<int32_t> read_shared_width(const Metadata& metadata, const ModelShape& shape);

// The same where expert_shared_feed_forward_length may say it, of all of them.
Result<int32_t> read_own_shared_width(const Metadata& metadata, const ModelShape& shape);

// swiglu_clamp_exp and swiglu_clamp_shexp.
Result<SwigluLimits> read_swiglu_limits(const Metadata& metadata, const ModelShape& shape,
                                        SwigluLimit limited);

}  // namespace odmoe
