#include "model/blocks/rope_factors.h"

namespace odmoe {

RopeFactors declare_rope_factors(DenseWeights& weights, RopeFactorKind kind, int64_t n_rot,
                                 int64_t n_ctx_orig) {
  RopeFactors factors;
  if (kind == RopeFactorKind::kOfModel) factors.of_model = weights.optional("rope_freqs.weight", {n_rot / 2});
  if (kind == RopeFactorKind::kByContext) {
    factors.within = weights.require("rope_factors_short.weight", {n_rot / 2});
    factors.beyond = weights.require("rope_factors_long.weight", {n_rot / 2});
    factors.n_ctx_orig = n_ctx_orig;
  }
  return factors;
}

}  // namespace odmoe
