// K2 Horizon: values that are routed in the layers with experts, a gate on what attention gives, norms of
// queries and keys with a weight for each head, norms of the stream in groups, leading dense layers, sigmoid
// routing with a selection bias, a shared expert.
#include <vector>

#include "model/arch/gqa_model.h"
#include "model/arch/registry.h"
#include "model/blocks/routed_values.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

class K2Horizon final : public GqaArchitecture {
 public:
  K2Horizon(GqaModel model, const RoutedValuesShape& routed, std::vector<bool> has_bias)
      : GqaArchitecture(std::move(model)), routed_(routed), has_bias_(std::move(has_bias)) {
    values_.resize(static_cast<size_t>(shape().n_layer));
  }

  void declare(DenseWeights& weights, int layer) override {
    GqaArchitecture::declare(weights, layer);
    const auto i = static_cast<size_t>(layer);
    if (routes_values(layer)) values_[i] = declare_routed_values(weights, routed_, layer, has_bias_[i]);
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    if (!routes_values(layer)) return GqaArchitecture::attention(inputs, layer, x);
    return attention_to(inputs, layer, x,
                        routed_values(inputs.context, routed_, values_[static_cast<size_t>(layer)], x));
  }

 private:
  bool routes_values(int layer) const { return gqa_shape(layer).values == ValuesFrom::kCaller; }

  RoutedValuesShape routed_;
  std::vector<bool> has_bias_;  // by layer
  std::vector<RoutedValuesWeights> values_;
};

}  // namespace

Result<std::unique_ptr<Architecture>> make_k2_horizon(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      GqaModel model,
      read_gqa_model(m, {.gating = Gating::kSigmoid, .scales = true, .selection_bias = kSelectionBias},
                     RopePairs::kHalves));
  ModelShape& shape = model.shape;
  shape.max_layer_nodes = 96;
  ODMOE_ASSIGN_OR_RETURN(const int32_t n_group,
                         m.integer_or("attention.group_norm_groups", 1, 0, shape.n_embd));
  shape.layer.norm_groups = std::max(n_group, 1);
  if (shape.n_embd % shape.layer.norm_groups != 0) {
    return fail(ErrorKind::kBadFile, "{}: {} values do not divide into {} groups", m.file().path().string(),
                shape.n_embd, shape.layer.norm_groups);
  }
  ODMOE_ASSIGN_OR_RETURN(int32_t n_ff, read_shared_width(m, shape));
  if (n_ff > 0) {
    ODMOE_ASSIGN_OR_RETURN(n_ff, read_own_shared_width(m, shape));
  }
  shape.shared.n_ff = n_ff;

  RoutedValuesShape routed{
      .n_embd = shape.n_embd, .n_value = model.gqa.value_dim * model.gqa.n_head_kv, .router = shape.router};
  constexpr int32_t kMostValues = 4096;
  ODMOE_ASSIGN_OR_RETURN(routed.router.n_expert,
                         m.integer_or("attention.value_expert_count", 0, 0, kMostValues));
  const bool routes = routed.router.n_expert > 0;
  ODMOE_ASSIGN_OR_RETURN(routed.router.n_expert_used, m.integer_or("attention.value_expert_used_count", 0,
                                                                   routes ? 1 : 0, routed.router.n_expert));
  const Gating gating = shape.router.gating;
  if (routes &&
      (routed.router.n_expert_used == 0 || (gating != Gating::kSoftmax && gating != Gating::kSigmoid))) {
    return fail(ErrorKind::kUnsupported, "{}: {} and {} do not go together with {} values to choose from",
                m.file().path().string(), m.key("attention.value_expert_used_count"),
                m.key("expert_gating_func"), routed.router.n_expert);
  }
  const auto has = [&m](int layer, std::string_view name) {
    return m.file().find_tensor(odmoe::format("blk.{}.{}", layer, name)) != nullptr;
  };
  std::vector<bool> has_bias;
  for (int i = 0; i < shape.n_layer; ++i) {
    GqaShape gqa = model.gqa;
    if (has(i, "attn_q_norm.weight")) gqa.qk_norm = QkNorm::kEachHead;
    if (has(i, "attn_gate.weight")) {
      gqa.gate = AttentionGate::kBinarySoftplus;
      gqa.gates_per_head = gqa.value_dim;
    }
    if (routes && shape.has_experts(i)) gqa.values = ValuesFrom::kCaller;
    model.layers.push_back(gqa);
    has_bias.push_back(has(i, "attn_v_gate.bias"));
  }
  return std::make_unique<K2Horizon>(std::move(model), routed, std::move(has_bias));
}

}  // namespace odmoe
