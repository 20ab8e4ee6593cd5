#include "model/arch/metadata.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "format/printable.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// Limits that no published model comes near, so that a damaged header cannot ask for absurd work.
constexpr int32_t kMaxLayers = 1024;
constexpr int32_t kMaxWidth = 1 << 20;
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

Result<std::vector<int32_t>> Metadata::integers(std::string_view name, int32_t n, int32_t least,
                                                int32_t most) const {
  ODMOE_ASSIGN_OR_RETURN(std::vector<int64_t> values, account_->get_ints(key(name)));
  if (values.size() == 1) values.resize(static_cast<size_t>(n), values.front());
  if (std::cmp_less(values.size(), n)) {
    return fail(ErrorKind::kBadFile, "{}: {} has {} numbers for {} layers", file().path().string(), key(name),
                values.size(), n);
  }
  std::vector<int32_t> result;
  for (const int64_t value : std::span(values).first(static_cast<size_t>(n))) {
    if (value < least || value > most) {
      return fail(ErrorKind::kBadFile, "{}: {} has {}; numbers from {} to {} were expected",
                  file().path().string(), key(name), value, least, most);
    }
    result.push_back(static_cast<int32_t>(value));
  }
  return result;
}

Result<std::vector<float>> Metadata::numbers(std::string_view name, int32_t n) const {
  if (!has(name)) return std::vector<float>();
  std::vector<float> values;
  if (auto several = account_->get_floats(key(name))) {
    values = std::move(*several);
  } else {
    ODMOE_ASSIGN_OR_RETURN(const float one, number(name));
    values = {one};
  }
  if (values.size() == 1) values.resize(static_cast<size_t>(n), values.front());
  if (std::cmp_less(values.size(), n)) {
    return fail(ErrorKind::kBadFile, "{}: {} has {} numbers for {} layers", file().path().string(), key(name),
                values.size(), n);
  }
  values.resize(static_cast<size_t>(n));
  for (const float value : values) {
    if (!std::isfinite(value) || value < 0) {
      return fail(ErrorKind::kBadFile, "{}: {} has {}; positive numbers or 0 were expected",
                  file().path().string(), key(name), value);
    }
  }
  return values;
}

Result<std::vector<bool>> Metadata::flags(std::string_view name, int32_t n) const {
  std::vector<bool> values;
  if (const auto numbers = account_->get_ints(key(name))) {
    for (const int64_t number : *numbers) values.push_back(number != 0);
  } else {
    ODMOE_ASSIGN_OR_RETURN(values, file().get_bools(key(name)));
  }
  if (std::cmp_less(values.size(), n)) {
    return fail(ErrorKind::kBadFile, "{}: {} is of {} layers, but there are {}", file().path().string(),
                key(name), values.size(), n);
  }
  values.resize(static_cast<size_t>(n));
  return values;
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

Result<float> Metadata::positive(std::string_view name) const {
  ODMOE_ASSIGN_OR_RETURN(const float value, number(name));
  if (value > 0) return value;
  return fail(ErrorKind::kBadFile, "{}: {} is {}; a positive number was expected", file().path().string(),
              key(name), value);
}

Result<float> Metadata::positive_or(std::string_view name, float otherwise) const {
  if (!has(name)) return otherwise;
  return positive(name);
}

Result<float> Metadata::factor_or_one(std::string_view name) const {
  ODMOE_ASSIGN_OR_RETURN(const float factor, number_or(name, 1));
  return factor == 0 ? 1 : factor;
}

namespace {

std::string_view gating_value(Gating gating) {
  switch (gating) {
    case Gating::kSoftmax:
      return "1 (softmax)";
    case Gating::kSigmoid:
    case Gating::kSigmoidOfChosen:
      return "2 (sigmoid)";
    case Gating::kSoftmaxOverChosen:
      return "3 (softmax over the chosen)";
    case Gating::kSqrtSoftplus:
      return "4 (square root of softplus)";
  }
  return "";
}

Result<Gating> read_gating(const Metadata& m, const FamilyRules& rules) {
  constexpr std::string_view kKey = "expert_gating_func";
  const std::string& path = m.file().path().string();
  if (rules.gating_says == Says::kKey && !m.has(kKey)) {
    return fail(ErrorKind::kBadFile, "{}: the model has no key {}, which says how experts are chosen", path,
                m.key(kKey));
  }
  ODMOE_ASSIGN_OR_RETURN(const int32_t value, m.integer_or(kKey, 0, 0, 255));
  Gating gating = rules.gating;
  switch (value) {
    case 0:  // not said
      break;
    case 1:
      gating = Gating::kSoftmax;
      break;
    case 2:
      gating = Gating::kSigmoid;
      break;
    case 3:
      gating = Gating::kSoftmaxOverChosen;
      break;
    case 4:
      gating = Gating::kSqrtSoftplus;
      break;
    default:
      return fail(ErrorKind::kUnsupported,
                  "{}: expert_gating_func {} is not known; known are 1 (softmax), 2 (sigmoid), 3 (softmax "
                  "over the chosen), 4 (square root of softplus)",
                  path, value);
  }
  // The graph of such a family knows one, whatever a file says.
  if (rules.gating_says == Says::kFamily && gating != rules.gating) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}, not {}, which {} models have", path, m.key(kKey),
                value, gating_value(rules.gating), m.arch());
  }
  return gating;
}

Result<bool> read_normalise(const Metadata& m, const FamilyRules& rules) {
  constexpr std::string_view kKey = "expert_weights_norm";
  if (rules.normalise_says != Says::kFamily) return m.boolean_or(kKey, rules.normalise);
  // A key that says otherwise is left to model/left_over.h, which refuses it.
  const auto value = m.file().get_bool(m.key(kKey));
  if (value.has_value() && *value == rules.normalise) {
    m.account().pass_over_key(
        m.key(kKey), rules.normalise ? "the family always normalises" : "the family never normalises");
  }
  return rules.normalise;
}

Status read_expert_layers(const Metadata& m, ExpertLayers layers, ModelShape& shape) {
  const auto has_router = [&](int32_t layer) {
    return m.file().find_tensor(odmoe::format("blk.{}.ffn_gate_inp.weight", layer)) != nullptr;
  };
  if (layers == ExpertLayers::kWithRouter) {
    int32_t& lead = shape.n_layer_dense_lead;
    while (lead < shape.n_layer && !has_router(lead)) ++lead;
    return {};
  }
  if (layers == ExpertLayers::kAnyRouter) {
    for (int32_t layer = 0; layer < shape.n_layer; ++layer) {
      shape.parts.push_back({.mlp = has_router(layer) ? MlpKind::kExperts : MlpKind::kDense});
    }
    return {};
  }
  if (layers == ExpertLayers::kAlone) {
    ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> n_ff,
                           m.integers("feed_forward_length", shape.n_layer, 0, kMaxWidth));
    for (const int32_t width : n_ff) {
      shape.parts.push_back(
          {.attention = width == 0, .mlp = width == 0 ? MlpKind::kNone : MlpKind::kExperts});
    }
    return {};
  }
  ODMOE_ASSIGN_OR_RETURN(shape.n_layer_dense_lead,
                         m.integer_or("leading_dense_block_count", 0, 0, shape.n_layer));
  if (layers == ExpertLayers::kInterleaved) {
    ODMOE_ASSIGN_OR_RETURN(const int32_t step, m.integer_or("interleave_moe_layer_step", 1, 0, kMaxLayers));
    shape.expert_layer_step = std::max(step, 1);
  }
  return {};
}

// Of layers, all that are not 0 are equal; 0: none is.
Result<int32_t> read_one_width(const Metadata& m, std::string_view name, const ModelShape& shape) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> widths, m.integers(name, shape.n_layer, 0, kMaxWidth));
  int32_t width = 0;
  for (const int32_t one : widths) {
    if (one != 0 && width != 0 && one != width) {
      return fail(ErrorKind::kUnsupported, "{}: {} has layers of {} and of {}; all have to be equal",
                  m.file().path().string(), m.key(name), width, one);
    }
    if (one != 0) width = one;
  }
  return width;
}

Status read_heads(const Metadata& m, const FamilyRules& rules, ModelShape& shape) {
  ODMOE_ASSIGN_OR_RETURN(shape.n_head, m.integer("attention.head_count", 1, kMaxHeads));
  if (rules.by_layer && m.has("attention.head_count_kv")) {
    ODMOE_ASSIGN_OR_RETURN(shape.n_head_kv, read_one_width(m, "attention.head_count_kv", shape));
  } else {
    ODMOE_ASSIGN_OR_RETURN(shape.n_head_kv,
                           m.integer_or("attention.head_count_kv", shape.n_head, 1, shape.n_head));
  }
  if (shape.n_head_kv == 0 || shape.n_head % shape.n_head_kv != 0) {
    return fail(ErrorKind::kBadFile, "{}: {} heads do not divide among {} KV heads", m.file().path().string(),
                shape.n_head, shape.n_head_kv);
  }
  return {};
}

// Of all layers.
Status read_most_heads(const Metadata& m, ModelShape& shape) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> heads,
                         m.integers("attention.head_count", shape.n_layer, 1, kMaxHeads));
  shape.n_head = shape.n_head_kv = std::ranges::max(heads);
  if (!m.has("attention.head_count_kv")) return {};
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> heads_kv,
                         m.integers("attention.head_count_kv", shape.n_layer, 1, kMaxHeads));
  shape.n_head_kv = std::ranges::max(heads_kv);
  return {};
}

}  // namespace

Result<ModelShape> read_shape(const Metadata& m, const FamilyRules& rules) {
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
  ODMOE_RETURN_IF_ERROR(read_expert_layers(m, rules.expert_layers, shape));
  ODMOE_ASSIGN_OR_RETURN(shape.n_embd, m.integer("embedding_length", 1, kMaxWidth));
  ODMOE_ASSIGN_OR_RETURN(shape.n_context_train, m.integer("context_length", 1, kMaxContext));
  ODMOE_RETURN_IF_ERROR(rules.heads_by_layer ? read_most_heads(m, shape) : read_heads(m, rules, shape));
  if (rules.by_layer && m.has("feed_forward_length")) {
    ODMOE_ASSIGN_OR_RETURN(shape.n_ff, read_one_width(m, "feed_forward_length", shape));
  } else {
    ODMOE_ASSIGN_OR_RETURN(shape.n_ff, m.integer_or("feed_forward_length", 0, 0, kMaxWidth));
  }
  shape.layer.norm = rules.norm;
  const char* const eps =
      rules.norm == NormKind::kRms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
  ODMOE_ASSIGN_OR_RETURN(shape.norm_eps, m.number(eps));
  if (shape.norm_eps < 0) return fail(ErrorKind::kBadFile, "{}: {} is negative", path, m.key(eps));
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
  if (router.n_expert == 0 || shape.first_expert_layer() == shape.n_layer) {
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
  ODMOE_ASSIGN_OR_RETURN(router.gating, read_gating(m, rules));
  ODMOE_ASSIGN_OR_RETURN(router.normalise, read_normalise(m, rules));
  if (rules.scales) {
    ODMOE_ASSIGN_OR_RETURN(router.scale, m.number_or("expert_weights_scale", 1));
  }
  shape.selection_bias = rules.selection_bias;
  const int32_t first = shape.first_expert_layer();
  // The experts' width is in the tensors; older files of some families do not give it as a key.
  const TensorInfo* down = m.file().find_tensor(odmoe::format("blk.{}.ffn_down_exps.weight", first));
  if (down == nullptr || down->ne[0] > kMaxWidth) {
    return fail(ErrorKind::kBadFile, "{}: the model has no tensor blk.{}.ffn_down_exps.weight", path, first);
  }
  shape.n_ff_exp = static_cast<int32_t>(down->ne[0]);
  int32_t n_ff_exp = 0;
  if (m.has("expert_feed_forward_length")) {
    ODMOE_ASSIGN_OR_RETURN(n_ff_exp, read_one_width(m, "expert_feed_forward_length", shape));
  }
  // 0: not said.
  if (n_ff_exp != 0 && n_ff_exp != shape.n_ff_exp) {
    return fail(ErrorKind::kBadFile, "{}: {} is {}, but experts are {} wide (blk.{}.ffn_down_exps.weight)",
                path, m.key("expert_feed_forward_length"), n_ff_exp, shape.n_ff_exp, first);
  }
  return shape;
}

Result<std::vector<bool>> read_recurrent_layers(const Metadata& m, const ModelShape& shape) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> heads,
                         m.integers("attention.head_count_kv", shape.n_layer, 0, shape.n_head));
  std::vector<bool> recurrent;
  recurrent.reserve(heads.size());
  for (const int32_t n_head_kv : heads) recurrent.push_back(n_head_kv == 0);
  return recurrent;
}

Result<std::vector<bool>> read_recurrent_interval(const Metadata& m, const ModelShape& shape,
                                                  int32_t interval_or) {
  const int32_t n_layer = shape.n_layer;
  constexpr std::string_view kKey = "attention.recurrent_layers";
  if (m.has(kKey)) return m.flags(kKey, n_layer);
  std::vector<bool> recurrent;
  ODMOE_ASSIGN_OR_RETURN(const int32_t interval,
                         m.integer_or("full_attention_interval", interval_or, 1, kMaxLayers));
  recurrent.reserve(static_cast<size_t>(n_layer));
  for (int32_t layer = 0; layer < n_layer; ++layer) recurrent.push_back((layer + 1) % interval != 0);
  return recurrent;
}

Status refuse_rope_scaling(const Metadata& m, const RopeOptions& rope) {
  std::string_view scaling;
  if (rope.freq_scale != 1)
    scaling = m.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  if (rope.attn_factor != 1) scaling = "rope.scaling.attn_factor";
  if (rope.yarn()) scaling = "rope.scaling.type";
  if (!scaling.empty()) {
    return fail(ErrorKind::kUnsupported,
                "{}: {} scales RoPE, which {} models here do not have: use another file",
                m.file().path().string(), m.key(scaling), m.arch());
  }
  return {};
}

Status forget_positions(const Metadata& m, RopeOptions& rope) {
  ODMOE_RETURN_IF_ERROR(refuse_rope_scaling(m, rope));
  rope.n_rot = 0;
  return {};
}

Result<int32_t> read_shared_width(const Metadata& m, const ModelShape& shape) {
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_shared, m.integer_or("expert_shared_count", 0, 0, 1024));
  return static_cast<int32_t>(
      std::min<int64_t>(static_cast<int64_t>(n_shared) * shape.n_ff_exp, int64_t{INT32_MAX}));
}

Result<int32_t> read_own_shared_width(const Metadata& m, const ModelShape& shape) {
  ODMOE_ASSIGN_OR_RETURN(const int32_t of_count, read_shared_width(m, shape));
  ODMOE_ASSIGN_OR_RETURN(const int32_t own,
                         m.integer_or("expert_shared_feed_forward_length", 0, 0, kMaxWidth));
  return own != 0 ? own : of_count;
}

Result<SwigluLimits> read_swiglu_limits(const Metadata& m, const ModelShape& shape, SwigluLimit limited) {
  SwigluLimits limits{.limited = limited};
  ODMOE_ASSIGN_OR_RETURN(limits.experts, m.numbers("swiglu_clamp_exp", shape.n_layer));
  ODMOE_ASSIGN_OR_RETURN(limits.others, m.numbers("swiglu_clamp_shexp", shape.n_layer));
  return limits;
}

}  // namespace odmoe
