#include "model/arch/mamba2_hybrid.h"

#include "model/arch/hybrid_model.h"
#include "model/blocks/mamba2.h"

namespace odmoe {
namespace {

Result<Mamba2Shape> read_mamba2(const Metadata& m, const ModelShape& shape) {
  constexpr int32_t kMost = 1 << 20;
  Mamba2Shape s{.n_embd = shape.n_embd, .norm_eps = shape.norm_eps};
  ODMOE_ASSIGN_OR_RETURN(s.n_inner, m.integer("ssm.inner_size", 1, kMost));
  ODMOE_ASSIGN_OR_RETURN(s.n_head, m.integer("ssm.time_step_rank", 1, kMost));
  ODMOE_ASSIGN_OR_RETURN(s.n_group, m.integer("ssm.group_count", 1, kMost));
  ODMOE_ASSIGN_OR_RETURN(s.d_state, m.integer("ssm.state_size", 1, 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(s.n_tap, m.integer("ssm.conv_kernel", 2, 64));
  if (s.n_inner % s.n_head != 0 || s.n_head % s.n_group != 0) {
    return fail(ErrorKind::kBadFile, "{}: {} channels do not divide among {} heads in {} groups ({}*)",
                m.file().path().string(), s.n_inner, s.n_head, s.n_group, m.key("ssm."));
  }
  return s;
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_mamba2_hybrid(const Metadata& m, GqaModel model) {
  model.shape.max_layer_nodes = 96;
  ODMOE_ASSIGN_OR_RETURN(const Mamba2Shape block, read_mamba2(m, model.shape));
  ODMOE_ASSIGN_OR_RETURN(std::vector<bool> recurrent, read_recurrent_layers(m, model.shape));
  return make_hybrid<mamba2_state, declare_mamba2, mamba2>(std::move(model), std::move(recurrent), block);
}

}  // namespace odmoe
