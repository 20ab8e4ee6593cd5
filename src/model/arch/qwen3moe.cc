// Qwen3-30B-A3B, Qwen3-235B-A22B (arXiv:2505.09388): RMSNorm of queries and keys per head, weights of the
// chosen experts normalised, no shared expert.
#include "model/arch/qwen.h"
#include "model/arch/registry.h"

namespace odmoe {
namespace {

class Qwen3Moe final : public QwenAttention {
 public:
  Qwen3Moe(ModelShape shape, const GqaShape& gqa) : QwenAttention(std::move(shape), gqa) {}
  void declare(DenseWeights& weights, int layer) override {
    declare_attention(weights, layer, /*with_norms=*/true);
  }
};

}  // namespace

Result<std::unique_ptr<Architecture>> make_qwen3moe(Account& account) {
  const Metadata metadata(account, "qwen3moe");
  ODMOE_ASSIGN_OR_RETURN(ModelShape shape, read_shape(metadata));
  shape.router.normalise = true;  // the family always does
  ODMOE_ASSIGN_OR_RETURN(const GqaShape gqa, read_gqa_shape(metadata, shape));
  return std::make_unique<Qwen3Moe>(std::move(shape), gqa);
}

}  // namespace odmoe
