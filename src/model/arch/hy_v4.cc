// Hunyuan 4: hyper-connections that do not mix the streams, multi-head latent attention with sinks and gates
// to rows that an indexer chooses, in some layers an earlier one's choice; leading dense layers, sigmoid
// routing, SwiGLU limits of the routed experts, a shared expert.
#include <utility>

#include "model/arch/hyper_connection_model.h"
#include "model/arch/registry.h"
#include "model/arch/sparse_mla_model.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_hy_v4(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      SparseMlaModel model,
      read_sparse_mla_model(m, {.gating = Gating::kSigmoid, .scales = true, .selection_bias = kSelectionBias},
                            RopePairs::kAdjacent));
  ModelShape& shape = model.mla.shape;
  MlaShape& mla = model.mla.mla;
  mla.sinks = true;
  mla.gates_per_head = mla.value_dim;
  model.indexer.norm_eps = shape.norm_eps;
  model.indexer.rope.first = static_cast<int32_t>(model.indexer.head_dim) - model.indexer.rope.n_rot;
  ODMOE_ASSIGN_OR_RETURN(model.choices, read_indexer_types(m, shape));
  shape.limits.limited = SwigluLimit::kGate;
  ODMOE_ASSIGN_OR_RETURN(shape.limits.experts, m.numbers("swiglu_clamp_exp", shape.n_layer));
  shape.max_layer_nodes = 192;
  ODMOE_ASSIGN_OR_RETURN(model.streams, read_unmixed_connections(m, shape));
  return make_sparse_mla(std::move(model));
}

}  // namespace odmoe
