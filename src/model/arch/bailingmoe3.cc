// Ling 3.0 and Ring 3.0 (Ling Team): Kimi Delta Attention with a bounded gate in most layers, multi-head
// latent attention with a gate per head in the others, leading dense layers, sigmoid routing with a selection
// bias and expert groups, SwiGLU limits, a shared expert.
#include <cmath>
#include <utility>

#include "model/arch/kda_mla_model.h"
#include "model/arch/registry.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_bailingmoe3(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(KdaMlaModel model, read_kda_mla_model(m, {.gating = Gating::kSigmoid,
                                                                   .gating_says = Says::kKey,
                                                                   .scales = true,
                                                                   .selection_bias = kSelectionBias,
                                                                   .by_layer = true}));
  const std::string path = m.file().path().string();
  MlaShape& mla = model.mla.mla;
  if (mla.rope.yarn()) {
    return fail(ErrorKind::kUnsupported, "{}: {} is yarn, which {} models here do not have", path,
                m.key("rope.scaling.type"), m.arch());
  }
  mla.kq_scale = 1 / std::sqrt(static_cast<float>(mla.nope_dim + mla.rope_dim));
  mla.gates_per_head = 1;
  KdaShape& kda = model.kda;
  kda.a_is_positive = true;
  kda.full_rank_decay = true;
  kda.full_rank_gate = "ssm_g_a";
  ODMOE_RETURN_IF_ERROR(read_gate_bound(m, kda));
  ODMOE_ASSIGN_OR_RETURN(const bool bounded, m.boolean_or("kda.safe_gate", true));
  if (!bounded || kda.gate_lower_bound == 0) {
    return fail(ErrorKind::kUnsupported, "{}: {} has to be true and {} negative", path,
                m.key("kda.safe_gate"), m.key("kda.gate_lower_bound"));
  }
  ModelShape& shape = model.mla.shape;
  ODMOE_ASSIGN_OR_RETURN(shape.shared.n_ff, read_own_shared_width(m, shape));
  ODMOE_ASSIGN_OR_RETURN(shape.limits, read_swiglu_limits(m, shape, SwigluLimit::kActivated));
  return std::make_unique<KdaMlaArchitecture>(std::move(model));
}

}  // namespace odmoe
