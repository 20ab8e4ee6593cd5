// GroveMoE-Inst (arXiv:2508.07785): Qwen3 MoE with a second set of small experts, one for each group of
// routed ones, which are always in memory.
#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"
#include "model/blocks/adjugate_experts.h"

namespace odmoe {
namespace {

class GroveMoe final : public GqaArchitecture {
 public:
  GroveMoe(GqaModel model, const AdjugateShape& adjugate)
      : GqaArchitecture(std::move(model)), adjugate_(adjugate) {
    adjugates_.resize(static_cast<size_t>(shape().n_layer));
  }

  void declare(DenseWeights& weights, int layer) override {
    GqaArchitecture::declare(weights, layer);
    adjugates_[static_cast<size_t>(layer)] = declare_adjugate(weights, adjugate_, layer);
  }

  ggml_tensor* after_experts(ggml_context* ctx, int layer, ggml_tensor* sum,
                             ggml_tensor* router_logits) const override {
    return add_adjugate(ctx, adjugate_, adjugates_[static_cast<size_t>(layer)], sum, router_logits);
  }

 private:
  AdjugateShape adjugate_;
  std::vector<AdjugateWeights> adjugates_;
};

}  // namespace

Result<std::unique_ptr<Architecture>> make_grovemoe(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating_says = Says::kFamily, .normalise = true, .normalise_says = Says::kFamily},
                     RopePairs::kHalves));
  model.gqa.qk_norm = QkNorm::kPerHead;
  const RouterOptions& router = model.shape.router;
  AdjugateShape adjugate{.n_embd = model.shape.n_embd, .n_expert = router.n_expert};
  ODMOE_ASSIGN_OR_RETURN(adjugate.group_size, m.integer("experts_per_group", 1, router.n_expert));
  if (router.n_expert % adjugate.group_size != 0) {
    return fail(ErrorKind::kBadFile, "{}: {} experts do not divide into groups of {}",
                m.file().path().string(), router.n_expert, adjugate.group_size);
  }
  adjugate.n_used = std::min(router.n_expert_used, adjugate.n_adjugate());
  ODMOE_ASSIGN_OR_RETURN(adjugate.n_ff, m.integer("expert_chunk_feed_forward_length", 1, 1 << 20));
  ODMOE_ASSIGN_OR_RETURN(adjugate.scale, m.number("expert_group_scale"));
  return std::make_unique<GroveMoe>(std::move(model), adjugate);
}

}  // namespace odmoe
