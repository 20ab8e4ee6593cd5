#include "model/arch/delta_net_model.h"

namespace odmoe {
namespace {

Result<DeltaNetShape> read_delta_net(const Metadata& m, const ModelShape& shape) {
  constexpr int32_t kMost = 1 << 16;
  DeltaNetShape s{.n_embd = shape.n_embd, .norm_eps = shape.norm_eps, .key_heads = KeyHeads::kRemainder};
  ODMOE_ASSIGN_OR_RETURN(s.head_dim, m.integer("ssm.state_size", 1, kMost));
  ODMOE_ASSIGN_OR_RETURN(s.n_head_key, m.integer("ssm.group_count", 1, kMost));
  ODMOE_ASSIGN_OR_RETURN(s.n_head, m.integer("ssm.time_step_rank", 1, kMost));
  ODMOE_ASSIGN_OR_RETURN(s.n_tap, m.integer("ssm.conv_kernel", 2, 64));
  ODMOE_ASSIGN_OR_RETURN(const int32_t inner, m.integer("ssm.inner_size", 1, 1 << 24));
  if (inner != s.n_value() || s.n_head % s.n_head_key != 0) {
    return fail(ErrorKind::kBadFile,
                "{}: {} value heads of {} on {} key heads do not make an inner size of {} ({}ssm.*)",
                m.file().path().string(), s.n_head, s.head_dim, s.n_head_key, inner, m.key(""));
  }
  return s;
}

}  // namespace

Result<DeltaNetModel> read_delta_net_model(const Metadata& m) {
  DeltaNetModel model;
  ODMOE_ASSIGN_OR_RETURN(
      model.gqa,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  ModelShape& shape = model.gqa.shape;
  shape.max_layer_nodes = 96;
  model.gqa.gqa.qk_norm = QkNorm::kPerHead;
  model.gqa.gqa.gated = true;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff,
                         m.integer_or("expert_shared_feed_forward_length", shape.n_ff, 1, 1 << 20));
  shape.shared.n_ff = n_ff;
  shape.shared.gated = true;
  ODMOE_ASSIGN_OR_RETURN(model.recurrent, read_recurrent_interval(m, shape, 4));
  ODMOE_ASSIGN_OR_RETURN(model.delta_net, read_delta_net(m, shape));
  return model;
}

}  // namespace odmoe
