// Qwen3-Next and Qwen3.5 MoE: gated attention in every fourth layer, Gated DeltaNet in the others; softmax
// routing, weights normalised, a shared expert behind a sigmoid gate.
#include "model/arch/hybrid_model.h"
#include "model/arch/registry.h"
#include "model/blocks/delta_net.h"

namespace odmoe {
namespace {

Result<DeltaNetShape> read_delta_net(const Metadata& m, const ModelShape& shape) {
  constexpr int32_t kMost = 1 << 16;
  DeltaNetShape s{.n_embd = shape.n_embd, .norm_eps = shape.norm_eps};
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

Result<std::unique_ptr<Architecture>> make_qwen3next(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  model.shape.layer.ffn_norm = "post_attention_norm";
  model.shape.max_layer_nodes = 96;
  model.gqa.qk_norm = QkNorm::kPerHead;
  model.gqa.gated = true;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff,
                         m.integer_or("expert_shared_feed_forward_length", model.shape.n_ff, 1, 1 << 20));
  model.shape.shared.n_ff = n_ff;
  model.shape.shared.gated = true;

  ODMOE_ASSIGN_OR_RETURN(std::vector<bool> recurrent, read_recurrent_interval(m, model.shape, 4));
  ODMOE_ASSIGN_OR_RETURN(DeltaNetShape delta_net, read_delta_net(m, model.shape));
  const bool is_next = m.arch() == "qwen3next";
  delta_net.joint_beta_alpha = is_next;
  delta_net.key_heads = is_next ? KeyHeads::kDivided : KeyHeads::kRemainder;
  return make_hybrid<delta_net_state, declare_delta_net, odmoe::delta_net>(std::move(model),
                                                                           std::move(recurrent), delta_net);
}

}  // namespace odmoe
