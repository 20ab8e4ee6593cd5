#include "model/arch/mla_model.h"

#include <cmath>

namespace odmoe {
namespace {

// With keys of the heads' own lengths, the plain ones are those of the cache, which follow from others.  Some
// converters leave the heads' lengths in them.
Status check_cache_lengths(const Metadata& m, const MlaShape& mla, int32_t head_dim) {
  const auto check = [&m](std::string_view name, int64_t cache, int64_t head) -> Status {
    ODMOE_ASSIGN_OR_RETURN(const int32_t value,
                           m.integer_or(name, static_cast<int32_t>(cache), 1, INT32_MAX));
    if (value == cache || value == head) return {};
    return fail(ErrorKind::kBadFile, "{}: {} is {}; {} was expected", m.file().path().string(), m.key(name),
                value, cache);
  };
  ODMOE_RETURN_IF_ERROR(check("attention.key_length", mla.cache_row(), head_dim));
  return check("attention.value_length", mla.kv_lora_rank, mla.value_dim);
}

Result<float> read_softmax_scale(const Metadata& m, int64_t head_dim, RopeOptions& rope) {
  ODMOE_ASSIGN_OR_RETURN(const float log_multiplier, m.number_or("rope.scaling.yarn_log_multiplier", 0));
  return mla_softmax_scale(head_dim, log_multiplier, rope);
}

}  // namespace

Result<MlaModel> read_mla_model(const Metadata& m, const FamilyRules& rules, RopePairs pairs,
                                MlaPositions positions) {
  constexpr int32_t kMaxDim = 1 << 16;
  MlaModel model;
  ODMOE_ASSIGN_OR_RETURN(model.shape, read_shape(m, rules));
  const ModelShape& shape = model.shape;
  MlaShape& mla = model.mla;
  mla = {.n_embd = shape.n_embd, .n_head = shape.n_head, .norm_eps = shape.norm_eps, .rope = {}};
  ODMOE_ASSIGN_OR_RETURN(mla.q_lora_rank, m.integer_or("attention.q_lora_rank", 0, 0, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(mla.kv_lora_rank, m.integer("attention.kv_lora_rank", 1, kMaxDim));
  // Files made for absorbed attention give the compressed lengths as key_length and the heads' own as *_mla.
  const bool has_mla_keys = m.has("attention.key_length_mla");
  ODMOE_ASSIGN_OR_RETURN(
      const int32_t head_dim,
      m.integer(has_mla_keys ? "attention.key_length_mla" : "attention.key_length", 2, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(
      mla.value_dim,
      m.integer(has_mla_keys ? "attention.value_length_mla" : "attention.value_length", 1, kMaxDim));
  const bool may_have_none = positions == MlaPositions::kMayBeNone;
  ODMOE_ASSIGN_OR_RETURN(mla.rope_dim,
                         m.integer("rope.dimension_count", may_have_none ? 0 : 2, head_dim - 1));
  mla.nope_dim = head_dim - mla.rope_dim;
  if (has_mla_keys) ODMOE_RETURN_IF_ERROR(check_cache_lengths(m, mla, head_dim));
  if (mla.rope_dim == 0) {
    m.account().pass_over_key(m.key("rope.freq_base"), "nothing is rotated");
    mla.kq_scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
  } else {
    ODMOE_ASSIGN_OR_RETURN(mla.rope,
                           read_rope(m.account(), m.arch(), pairs, static_cast<int32_t>(mla.rope_dim)));
    ODMOE_ASSIGN_OR_RETURN(mla.kq_scale, read_softmax_scale(m, head_dim, mla.rope));
  }
  ODMOE_ASSIGN_OR_RETURN(model.shape.shared.n_ff, read_shared_width(m, shape));
  return model;
}

}  // namespace odmoe
