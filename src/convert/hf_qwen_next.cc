// Qwen3-Next (80B-A3B, Coder-Next) and Qwen3.5 MoE (35B-A3B, 122B-A10B, 397B-A17B) as Hugging Face has them:
// gated attention in every fourth layer, Gated DeltaNet in the others (arXiv:2412.06464).
#include <algorithm>
#include <utility>

#include "convert/hf_common.h"
#include "convert/hf_order.h"
#include "convert/hf_rope.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

// All norms but that of DeltaNet's output.
constexpr HfTransform kNorms = HfTransform::kPlusOne;

struct DeltaNet {
  int64_t n_key_head = 0, n_value_head = 0, head_dim = 0, n_tap = 0;
  int64_t n_key() const { return n_key_head * head_dim; }
  int64_t n_value() const { return n_value_head * head_dim; }
  int64_t n_channel() const { return 2 * n_key() + n_value(); }
};

DeltaNet map_delta_net_keys(HfModelBuilder& b) {
  const HfConfig& config = b.config();
  DeltaNet net;
  net.n_tap = b.value_or_fail(config.integer("linear_conv_kernel_dim", 2, 64));
  net.head_dim = b.value_or_fail(config.integer("linear_key_head_dim", 1, 1 << 16));
  net.n_key_head = std::max<int64_t>(1, b.value_or_fail(config.integer("linear_num_key_heads", 1, 1 << 16)));
  net.n_value_head = b.value_or_fail(config.integer("linear_num_value_heads", 1, 1 << 16));
  if (b.value_or_fail(config.integer("linear_value_head_dim", 1, 1 << 16)) != net.head_dim) {
    b.refuse("linear_value_head_dim is not linear_key_head_dim");
  }
  if (net.n_value_head % net.n_key_head != 0) {
    b.refuse("linear_num_value_heads is not a multiple of linear_num_key_heads");
  }
  b.set_u32("ssm.conv_kernel", net.n_tap);
  b.set_u32("ssm.state_size", net.head_dim);
  b.set_u32("ssm.group_count", net.n_key_head);
  b.set_u32("ssm.time_step_rank", net.n_value_head);
  b.set_u32("ssm.inner_size", net.n_value());
  return net;
}

// Which layers have attention: every so many, which layer_types must say too.
int64_t map_interval(HfModelBuilder& b, const HfCommon& c) {
  const HfConfig& config = b.config();
  const int64_t interval = std::max<int64_t>(
      1, b.value_or_fail(config.integer_or("full_attention_interval", 4, 1, c.n_layer + 1)));
  b.set_u32("full_attention_interval", interval);
  const nlohmann::json* types = config.find("layer_types");
  if (types == nullptr) return interval;
  bool regular = types->is_array() && static_cast<int64_t>(types->size()) == c.n_layer;
  for (size_t i = 0; regular && i < types->size(); ++i) {
    const bool attention = (static_cast<int64_t>(i) + 1) % interval == 0;
    regular = (*types)[i] == (attention ? "full_attention" : "linear_attention");
  }
  if (!regular) {
    b.refuse(odmoe::format("layer_types do not have full_attention in every layer of {} alone", interval));
  }
  return interval;
}

void map_gated_attention(HfModelBuilder& b, const HfHeads& heads, const std::string& block,
                         const std::string& attention, int64_t n_embd) {
  // Per head its queries, then its gate.
  b.add_matrix(block + "attn_q.weight", attention + "q_proj", n_embd, 2 * heads.n_query());
  b.add_matrix(block + "attn_k.weight", attention + "k_proj", n_embd, heads.n_key());
  b.add_matrix(block + "attn_v.weight", attention + "v_proj", n_embd, heads.n_key());
  b.add_matrix(block + "attn_output.weight", attention + "o_proj", heads.n_query(), n_embd);
  map_qk_norms(b, block, attention, heads.head_dim, heads.head_dim, kNorms);
}

// Qwen3-Next's joint projections.  in_proj_qkvz has, per key head, its queries, its keys, and the values and
// gates of its value heads; GGUF has queries, keys and values of all heads one after another, and the gates
// apart.
void map_joint_inputs(HfModelBuilder& b, const DeltaNet& net, const std::string& block,
                      const std::string& source, int64_t n_embd) {
  if (b.failed()) return;
  Result<HfWeight> joint = b.weight(source + "in_proj_qkvz");
  if (!joint.has_value()) return b.fail_with(std::move(joint).error());
  if (joint->rows != net.n_channel() + net.n_value() || joint->columns != n_embd) {
    return b.fail_with(
        {ErrorKind::kBadFile,
         odmoe::format("{}: '{}' has {} rows of {}; {} of {} were expected", b.config().name(), joint->name,
                       joint->rows, joint->columns, net.n_channel() + net.n_value(), n_embd)});
  }
  const int64_t d = net.head_dim;
  const int64_t of_key = net.n_value_head / net.n_key_head * d;
  const int64_t period = 2 * d + 2 * of_key;
  std::vector<int64_t> qkv;
  hf_append_parts(qkv, net.n_key_head, period, 0, d);
  hf_append_parts(qkv, net.n_key_head, period, d, d);
  hf_append_parts(qkv, net.n_key_head, period, 2 * d, of_key);
  std::vector<int64_t> z;
  hf_append_parts(z, net.n_key_head, period, 2 * d + of_key, of_key);
  b.add({.name = block + "attn_qkv.weight",
         .ne = {n_embd, net.n_channel(), 1},
         .weights = {*joint},
         .row_order = std::move(qkv)});
  b.add({.name = block + "attn_gate.weight",
         .ne = {n_embd, net.n_value(), 1},
         .weights = {*std::move(joint)},
         .row_order = std::move(z)});
  // Per key head its betas, then its alphas, in both.
  b.add_matrix(block + "ssm_ba.weight", source + "in_proj_ba", n_embd, 2 * net.n_value_head);
}

// Qwen3.5's projections, each of its own.
void map_separate_inputs(HfModelBuilder& b, const DeltaNet& net, const std::vector<int64_t>& heads,
                         const std::string& block, const std::string& source, int64_t n_embd) {
  HfTarget* made = b.add_matrix(block + "attn_qkv.weight", source + "in_proj_qkv", n_embd, net.n_channel());
  if (made != nullptr) made->row_order = hf_order_of_heads(heads, net.head_dim, 2 * net.n_key());
  made = b.add_matrix(block + "attn_gate.weight", source + "in_proj_z", n_embd, net.n_value());
  if (made != nullptr) made->row_order = hf_order_of_heads(heads, net.head_dim, 0);
  for (const auto& [target, of] : {std::pair{"ssm_alpha", "in_proj_a"}, std::pair{"ssm_beta", "in_proj_b"}}) {
    made = b.add_matrix(odmoe::format("{}{}.weight", block, target), source + of, n_embd, net.n_value_head);
    if (made != nullptr) made->row_order = heads;
  }
}

// `heads` is the order of value heads, empty where they stay as they are.
void map_delta_net(HfModelBuilder& b, const DeltaNet& net, const std::vector<int64_t>& heads,
                   const std::string& block, const std::string& source, int64_t n_embd) {
  const std::vector<int64_t> taps = b.shape_of(source + "conv1d.weight");
  if (taps.size() == 3 && taps[2] != net.n_tap && taps[1] == net.n_tap) {
    return b.refuse(odmoe::format("'{}conv1d.weight' has its taps in the second dimension, as MLX", source));
  }
  HfTarget* taps_made =
      b.add_vectors(block + "ssm_conv1d.weight", source + "conv1d.weight", net.n_tap, net.n_channel());
  if (taps_made != nullptr) taps_made->row_order = hf_order_of_heads(heads, net.head_dim, 2 * net.n_key());
  HfTarget* made = b.add_vector(block + "ssm_dt.bias", source + "dt_bias", net.n_value_head);
  if (made != nullptr) made->column_order = heads;
  made = b.add_vector(block + "ssm_a", source + "A_log", net.n_value_head);
  if (made != nullptr) {
    made->column_order = heads;
    made->transform = HfTransform::kNegativeExponential;
  }
  b.add_vector(block + "ssm_norm.weight", source + "norm.weight", net.head_dim);
  made = b.add_matrix(block + "ssm_out.weight", source + "out_proj", net.n_value(), n_embd);
  if (made != nullptr) made->column_order = heads;
}

void map_family(HfModelBuilder& b, const std::string& prefix, bool joint) {
  const HfConfig& config = b.config();
  const HfCommon c = map_common(b, prefix, kNorms);
  refuse_dense_layers(b);
  refuse_other_normalisation(b, /*normalises=*/true, /*otherwise=*/true);
  if (b.value_or_fail(config.boolean_or("attention_bias", false))) b.refuse("attention_bias is set");
  if (!b.value_or_fail(config.boolean_or("attn_output_gate", true))) b.refuse("attn_output_gate is false");
  const HfHeads heads = map_heads(b, c);
  const HfExperts experts{.n_expert = map_expert_counts(b),
                          .n_ff = b.value_or_fail(config.integer("moe_intermediate_size", 1, 1 << 20))};
  const int64_t n_ff_shared = b.value_or_fail(config.integer("shared_expert_intermediate_size", 1, 1 << 20));
  // Of layers without experts, of which there are none.
  if (config.has("intermediate_size")) {
    b.set_u32("feed_forward_length", b.value_or_fail(config.integer("intermediate_size", 1, 1 << 20)));
  }
  b.set_u32("expert_feed_forward_length", experts.n_ff);
  b.set_u32("expert_shared_feed_forward_length", n_ff_shared);
  map_rope(b);
  map_rope_part(b, heads.head_dim, 0.25);
  const int64_t interval = map_interval(b, c);
  const DeltaNet net = map_delta_net_keys(b);
  const std::vector<int64_t> order =
      joint || b.failed() ? std::vector<int64_t>() : hf_heads_in_turn(net.n_key_head, net.n_value_head);

  for (int64_t i = 0; i < c.n_layer && !b.failed(); ++i) {
    const HfLayer layer(prefix, i);
    map_layer_norms(b, layer.block, layer.source, c.n_embd, "post_attention_norm", kNorms);
    if ((i + 1) % interval == 0) {
      map_gated_attention(b, heads, layer.block, layer.attention, c.n_embd);
    } else {
      const std::string source = layer.source + "linear_attn.";
      if (joint) {
        map_joint_inputs(b, net, layer.block, source, c.n_embd);
      } else {
        map_separate_inputs(b, net, order, layer.block, source, c.n_embd);
      }
      map_delta_net(b, net, order, layer.block, source, c.n_embd);
    }
    map_routed(b, layer.block, layer.mlp, c.n_embd, experts);
    map_gated_shared_expert(b, layer.block, layer.mlp, c.n_embd, n_ff_shared);
  }
}

}  // namespace

void map_qwen3_next(HfModelBuilder& b, const std::string& prefix) { map_family(b, prefix, /*joint=*/true); }

void map_qwen35_moe(HfModelBuilder& b, const std::string& prefix) {
  map_family(b, prefix, /*joint=*/false);
  map_rope_sections(b, {11, 11, 10});
}

}  // namespace odmoe
