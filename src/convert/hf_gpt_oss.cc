// gpt-oss-20b and 120b (arXiv:2508.10925) as Hugging Face has them: experts in MXFP4, gate and up in rows
// that alternate.
#include "convert/hf_common.h"
#include "convert/hf_order.h"
#include "convert/hf_rope.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// What the family computes and GGUF has no key for.
void refuse_other_gpt_oss(HfModelBuilder& b, const HfCommon& c) {
  const HfConfig& config = b.config();
  constexpr double kLimit = 7;
  if (b.value_or_fail(config.number_or("swiglu_limit", kLimit)) != kLimit) b.refuse("swiglu_limit is not 7");
  if (!b.value_or_fail(config.boolean_or("attention_bias", true))) b.refuse("attention_bias is false");
  const nlohmann::json* types = config.find("layer_types");
  if (types == nullptr) return;
  bool alternate = types->is_array() && static_cast<int64_t>(types->size()) == c.n_layer;
  for (size_t i = 0; alternate && i < types->size(); ++i) {
    alternate = (*types)[i] == (i % 2 == 0 ? "sliding_attention" : "full_attention");
  }
  if (!alternate) b.refuse("layer_types are not sliding_attention and full_attention in turn");
}

// What is made of the projections in SOURCE, which has `rows` rows for each expert.
void add_projections(HfModelBuilder& b, HfTarget made, const std::string& source, int64_t rows) {
  if (b.failed()) return;
  Result<HfWeight> found = b.weight(source, 3);
  if (!found.has_value()) return b.fail_with(std::move(found).error());
  // Other forms have the transpose of these.
  if (found->encoding != HfEncoding::kMxfp4) return b.refuse(odmoe::format("'{}' is not MXFP4", found->name));
  if (found->rows != rows * made.ne[2] || found->columns != made.ne[0]) {
    return b.fail_with(
        {ErrorKind::kBadFile,
         odmoe::format("{}: '{}' has {} rows of {}; {} of {} were expected", b.config().name(), found->name,
                       found->rows, found->columns, rows * made.ne[2], made.ne[0])});
  }
  made.role = HfRole::kExperts;
  made.matrix_rows = rows;
  made.weights.push_back(*std::move(found));
  b.add(std::move(made));
}

// One of the two whose rows, or elements of biases, alternate in SOURCE: the first is the gate.
void map_alternating(HfModelBuilder& b, const std::string& target, const std::string& source, bool second,
                     int64_t n_embd, const HfExperts& experts) {
  add_projections(b,
                  {.name = target + ".weight",
                   .ne = {n_embd, experts.n_ff, experts.n_expert},
                   .first_row = second ? 1 : 0,
                   .row_order = hf_every_second(experts.n_ff)},
                  source, 2 * experts.n_ff);
  HfTarget* bias = b.add_vectors(target + ".bias", source + "_bias", 2 * experts.n_ff, experts.n_expert);
  if (bias == nullptr) return;
  bias->ne[0] = experts.n_ff;
  bias->column_order = hf_every_second(experts.n_ff);
  if (second) {
    for (int64_t& column : bias->column_order) ++column;
  }
}

void map_moe(HfModelBuilder& b, const std::string& block, const std::string& mlp, int64_t n_embd,
             const HfExperts& experts) {
  b.add_matrix(block + "ffn_gate_inp.weight", mlp + "router", n_embd, experts.n_expert, HfRole::kExact);
  b.add_vector(block + "ffn_gate_inp.bias", mlp + "router.bias", experts.n_expert);
  const std::string both = mlp + "experts.gate_up_proj";
  map_alternating(b, block + "ffn_gate_exps", both, /*second=*/false, n_embd, experts);
  map_alternating(b, block + "ffn_up_exps", both, /*second=*/true, n_embd, experts);
  const std::string down = mlp + "experts.down_proj";
  add_projections(b, {.name = block + "ffn_down_exps.weight", .ne = {experts.n_ff, n_embd, experts.n_expert}},
                  down, n_embd);
  b.add_vectors(block + "ffn_down_exps.bias", down + "_bias", n_embd, experts.n_expert);
}

}  // namespace

void map_gpt_oss(HfModelBuilder& b, const std::string& prefix) {
  const HfConfig& config = b.config();
  const HfCommon c = map_common(b, prefix);
  refuse_other_gpt_oss(b, c);
  const HfHeads heads = map_heads(b, c);
  const HfExperts experts{.n_expert = map_expert_counts(b),
                          .n_ff = b.value_or_fail(config.integer("intermediate_size", 1, 1 << 20))};
  b.set_u32("feed_forward_length", experts.n_ff);
  b.set_u32("expert_feed_forward_length", experts.n_ff);
  b.set_u32("attention.sliding_window", b.value_or_fail(config.integer("sliding_window", 1, 1 << 27)));
  map_rope(b, HfYarn::kGptOss);

  for (int64_t i = 0; i < c.n_layer && !b.failed(); ++i) {
    const HfLayer layer = map_gqa_layer(b, c, heads, prefix, i, "post_attention_norm");
    map_qkv_biases(b, heads, layer.block, layer.attention);
    b.add_vector(layer.block + "attn_output.bias", layer.attention + "o_proj.bias", c.n_embd);
    b.add_vector(layer.block + "attn_sinks.weight", layer.attention + "sinks", heads.n_head);
    map_moe(b, layer.block, layer.mlp + ".", c.n_embd, experts);
  }
}

}  // namespace odmoe
