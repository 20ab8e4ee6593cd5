#include "model/arch/metadata.h"

#include <algorithm>
#include <cmath>

#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// Limits that no published model comes near, so that a damaged header cannot ask for absurd work.
constexpr int32_t kMaxLayers = 1024;
constexpr int32_t kMaxWidth = 1 << 20;
constexpr int32_t kMaxHeads = 4096;
constexpr int32_t kMaxExperts = 4096;
constexpr int32_t kMaxContext = 1 << 27;

}  // namespace

Result<int32_t> Metadata::integer(std::string_view name, int32_t least, int32_t most) const {
  ODMOE_ASSIGN_OR_RETURN(const int64_t value, account_->get_int(key(name)));
  if (value < least || value > most) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}; a number from {} to {} was expected",
                file().path().string(), key(name), value, least, most);
  }
  return static_cast<int32_t>(value);
}

Result<int32_t> Metadata::integer_or(std::string_view name, int32_t otherwise, int32_t least,
                                     int32_t most) const {
  if (!has(name)) return otherwise;
  return integer(name, least, most);
}

Result<float> Metadata::number(std::string_view name) const {
  ODMOE_ASSIGN_OR_RETURN(const double value, account_->get_float(key(name)));
  if (!std::isfinite(value)) {
    return fail(ErrorKind::kBadFile, "{}: {} is not a finite number", file().path().string(), key(name));
  }
  return static_cast<float>(value);
}

Result<float> Metadata::number_or(std::string_view name, float otherwise) const {
  if (!has(name)) return otherwise;
  return number(name);
}

Result<bool> Metadata::boolean_or(std::string_view name, bool otherwise) const {
  if (!has(name)) return otherwise;
  return account_->get_bool(key(name));
}

Result<ModelShape> read_shape(const Metadata& m) {
  ModelShape shape;
  shape.architecture = m.arch();
  const std::string& path = m.file().path().string();
  if (m.account().has("general.name")) {
    ODMOE_ASSIGN_OR_RETURN(const std::string name, m.account().get_string("general.name"));
    shape.name = printable(name);  // it is shown on terminals
  }
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_block, m.integer("block_count", 1, kMaxLayers));
  // The last blocks predict the tokens after the next (MTP); they are no part of decoding token by token.
  ODMOE_ASSIGN_OR_RETURN(shape.n_layer_nextn, m.integer_or("nextn_predict_layers", 0, 0, n_block - 1));
  shape.n_layer = n_block - shape.n_layer_nextn;
  for (int32_t block = shape.n_layer; block < n_block; ++block) {
    // What such a block has and a layer has not.
    const std::string own = odmoe::format("blk.{}.nextn.", block);
    const bool has_own = std::ranges::any_of(
        m.file().tensors(), [&](const TensorInfo& tensor) { return tensor.name.starts_with(own); });
    if (has_own) continue;
    return fail(
        ErrorKind::kBadFile,
        "{}: {} is {}, so block {} is for speculation (MTP), but it has no tensor {}*: the key is wrong, "
        "or the file is not whole",
        path, m.key("nextn_predict_layers"), shape.n_layer_nextn, block, own);
  }
  ODMOE_ASSIGN_OR_RETURN(shape.n_layer_dense_lead,
                         m.integer_or("leading_dense_block_count", 0, 0, shape.n_layer));
  ODMOE_ASSIGN_OR_RETURN(shape.n_embd, m.integer("embedding_length", 1, kMaxWidth));
  ODMOE_ASSIGN_OR_RETURN(shape.n_context_train, m.integer("context_length", 1, kMaxContext));
  ODMOE_ASSIGN_OR_RETURN(shape.n_head, m.integer("attention.head_count", 1, kMaxHeads));
  ODMOE_ASSIGN_OR_RETURN(shape.n_head_kv,
                         m.integer_or("attention.head_count_kv", shape.n_head, 1, shape.n_head));
  if (shape.n_head % shape.n_head_kv != 0) {
    return fail(ErrorKind::kBadFile, "{}: {} heads do not divide among {} KV heads", path, shape.n_head,
                shape.n_head_kv);
  }
  ODMOE_ASSIGN_OR_RETURN(shape.n_ff, m.integer_or("feed_forward_length", 0, 0, kMaxWidth));
  ODMOE_ASSIGN_OR_RETURN(shape.norm_eps, m.number("attention.layer_norm_rms_epsilon"));
  if (shape.norm_eps < 0) {
    return fail(ErrorKind::kBadFile, "{}: {} is negative", path, m.key("attention.layer_norm_rms_epsilon"));
  }
  const TensorInfo* embedding = m.file().find_tensor("token_embd.weight");
  if (embedding == nullptr) {
    return fail(ErrorKind::kBadFile,
                "{}: the model has no tensor token_embd.weight; is this a vocabulary-only file?", path);
  }
  if (embedding->ne[1] > INT32_MAX) {
    return fail(ErrorKind::kBadFile, "{}: token_embd.weight has {} rows", path, embedding->ne[1]);
  }
  shape.n_vocab = static_cast<int32_t>(embedding->ne[1]);

  RouterOptions& router = shape.router;
  ODMOE_ASSIGN_OR_RETURN(router.n_expert, m.integer_or("expert_count", 0, 0, kMaxExperts));
  if (router.n_expert == 0 || shape.n_layer_dense_lead == shape.n_layer) {
    return fail(ErrorKind::kUnsupported,
                "{}: the model has no routed experts; odmoe runs mixture-of-experts models, use llama.cpp "
                "for dense ones",
                path);
  }
  ODMOE_ASSIGN_OR_RETURN(router.n_expert_used, m.integer("expert_used_count", 1, router.n_expert));
  ODMOE_ASSIGN_OR_RETURN(router.n_group, m.integer_or("expert_group_count", 1, 0, router.n_expert));
  ODMOE_ASSIGN_OR_RETURN(router.n_group_used, m.integer_or("expert_group_used_count", 1, 0, kMaxExperts));
  if (router.n_group > 1 && !m.has("expert_group_used_count")) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}, but there is no {}, which says how many of them are used",
                path, m.key("expert_group_count"), router.n_group, m.key("expert_group_used_count"));
  }
  router.n_group = std::max(router.n_group, 1);
  router.n_group_used = std::max(router.n_group_used, 1);
  if (router.n_expert % router.n_group != 0 || router.n_group_used > router.n_group ||
      router.n_expert / router.n_group * router.n_group_used < router.n_expert_used) {
    return fail(ErrorKind::kBadFile,
                "{}: {} experts in {} groups, {} of them used, cannot give {} experts per token", path,
                router.n_expert, router.n_group, router.n_group_used, router.n_expert_used);
  }
  ODMOE_ASSIGN_OR_RETURN(const int32_t gating, m.integer_or("expert_gating_func", 0, 0, 255));
  switch (gating) {
    case 0:
    case 1:
      router.gating = Gating::kSoftmax;
      break;
    case 2:
      router.gating = Gating::kSigmoid;
      break;
    case 3:
      router.gating = Gating::kSoftmaxOverChosen;
      break;
    default:
      return fail(ErrorKind::kUnsupported,
                  "{}: expert_gating_func {} is not known; known are 1 (softmax), 2 (sigmoid), 3 (softmax "
                  "over the chosen)",
                  path, gating);
  }
  // The experts' width is in the tensors; older files of some families do not give it as a key.
  const TensorInfo* down =
      m.file().find_tensor(odmoe::format("blk.{}.ffn_down_exps.weight", shape.n_layer_dense_lead));
  if (down == nullptr || down->ne[0] > kMaxWidth) {
    return fail(ErrorKind::kBadFile, "{}: the model has no tensor blk.{}.ffn_down_exps.weight", path,
                shape.n_layer_dense_lead);
  }
  shape.n_ff_exp = static_cast<int32_t>(down->ne[0]);
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff_exp,
                         m.integer_or("expert_feed_forward_length", shape.n_ff_exp, 0, kMaxWidth));
  // 0: not said.
  if (n_ff_exp != 0 && n_ff_exp != shape.n_ff_exp) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}, but experts are {} wide (blk.{}.ffn_down_exps.weight)",
                path, m.key("expert_feed_forward_length"), n_ff_exp, shape.n_ff_exp,
                shape.n_layer_dense_lead);
  }
  return shape;
}

}  // namespace odmoe
