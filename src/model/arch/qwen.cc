#include "model/arch/qwen.h"

namespace odmoe {

Result<GqaShape> read_gqa_shape(const Metadata& metadata, const ModelShape& shape) {
  // The families' graphs know the softmax alone, whatever a file says.
  if (shape.router.gating != Gating::kSoftmax) {
    return fail(ErrorKind::kUnsupported, "{}: {} is not 1 (softmax), which {} models have",
                metadata.file().path().string(), metadata.key("expert_gating_func"), metadata.arch());
  }
  GqaShape gqa{.n_embd = shape.n_embd,
               .n_head = shape.n_head,
               .n_head_kv = shape.n_head_kv,
               .head_dim = 0,
               .norm_eps = shape.norm_eps,
               .rope = {}};
  ODMOE_ASSIGN_OR_RETURN(const int32_t key, metadata.integer_or("attention.key_length",
                                                                shape.n_embd / shape.n_head, 2, 1 << 16));
  ODMOE_ASSIGN_OR_RETURN(const int32_t value, metadata.integer_or("attention.value_length", key, 2, 1 << 16));
  if (key != value) {
    return fail(ErrorKind::kUnsupported,
                "{}: keys of {} and values of {} dimensions per head; they must be equal",
                metadata.file().path().string(), key, value);
  }
  gqa.head_dim = key;
  ODMOE_ASSIGN_OR_RETURN(gqa.rope, read_rope(metadata.account(), metadata.arch(), RopePairs::kHalves, key));
  return gqa;
}

}  // namespace odmoe
