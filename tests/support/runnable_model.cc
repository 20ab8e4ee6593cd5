#include "runnable_model.h"

#include <cmath>
#include <random>

#include "odmoe/format.h"
#include "small_model.h"

namespace odmoe::testing {
namespace {

constexpr int64_t kVocabulary = 260;
constexpr int64_t kHeads = 4;

// Values that depend on the seed alone, on every machine: distributions of the standard library do not
// promise it.
std::vector<float> random_values(uint32_t seed, int64_t n, float scale) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) {
    value = scale * (static_cast<float>(random() >> 8U) / static_cast<float>(1U << 23U) - 1.0F);
  }
  return values;
}

int64_t product(const std::vector<int64_t>& ne) {
  int64_t n = 1;
  for (const int64_t x : ne) n *= x;
  return n;
}

class Builder {
 public:
  explicit Builder(const RunnableModelOptions& options) : o_(options) {}

  GgufWriter build() {
    metadata();
    add_tokenizer(w_, {.all_bytes = true});
    add("token_embd.weight", {o_.n_embd, kVocabulary}, 1);
    add("output.weight", {o_.n_embd, kVocabulary});
    ones("output_norm.weight", o_.n_embd);
    const int lead = deepseek() ? 1 : 0;
    for (int layer = 0; layer < o_.n_layer + lead; ++layer) {
      prefix_ = odmoe::format("blk.{}.", layer);
      ones(prefix_ + "attn_norm.weight", o_.n_embd);
      ones(prefix_ + "ffn_norm.weight", o_.n_embd);
      deepseek() ? mla() : gqa();
      layer < lead ? dense_ffn("", 2 * o_.n_embd) : experts(layer - lead);
    }
    return std::move(w_);
  }

 private:
  bool deepseek() const { return std::string_view(o_.architecture) == "deepseek2"; }
  bool qwen2() const { return std::string_view(o_.architecture) == "qwen2moe"; }
  std::string key(std::string_view name) const { return odmoe::format("{}.{}", o_.architecture, name); }

  void metadata() {
    w_.set("general.architecture", o_.architecture).set("general.name", "runnable");
    const auto set = [&](std::string_view name, uint32_t value) { w_.set(key(name), value); };
    set("block_count", static_cast<uint32_t>(o_.n_layer + (deepseek() ? 1 : 0)));
    set("context_length", 512);
    set("embedding_length", static_cast<uint32_t>(o_.n_embd));
    set("feed_forward_length", static_cast<uint32_t>(2 * o_.n_embd));
    set("expert_count", static_cast<uint32_t>(o_.n_expert));
    set("expert_used_count", static_cast<uint32_t>(o_.n_expert_used));
    set("expert_feed_forward_length", static_cast<uint32_t>(o_.n_ff_exp));
    set("attention.head_count", kHeads);
    w_.set(key("attention.layer_norm_rms_epsilon"), 1e-6F).set(key("rope.freq_base"), 10000.0F);
    if (!deepseek()) {
      set("attention.head_count_kv", 2);
      set("attention.key_length", 16);
      set("attention.value_length", 16);
      return;
    }
    set("leading_dense_block_count", 1);
    set("expert_shared_count", 1);
    set("attention.head_count_kv", 1);
    if (o_.q_lora) set("attention.q_lora_rank", 32);
    set("attention.kv_lora_rank", 32);
    set("attention.key_length", 48);
    set("attention.value_length", 32);
    set("attention.key_length_mla", 32);
    set("attention.value_length_mla", 16);
    set("rope.dimension_count", 16);
    w_.set(key("expert_weights_norm"), o_.sigmoid_groups).set(key("expert_weights_scale"), 1.5F);
    set("expert_gating_func", o_.sigmoid_groups ? 2 : 1);
    if (o_.sigmoid_groups) {
      set("expert_group_count", 4);
      set("expert_group_used_count", 2);
    }
    if (o_.yarn) {
      w_.set(key("rope.scaling.type"), "yarn").set(key("rope.scaling.factor"), 8.0F);
      set("rope.scaling.original_context_length", 64);
      w_.set(key("rope.scaling.yarn_log_multiplier"), 0.1F);
    }
  }

  void ones(const std::string& name, int64_t n) {
    const std::vector<float> values(static_cast<size_t>(n), 1.0F);
    w_.add_values(name, GGML_TYPE_F32, {n}, values);
  }
  std::vector<float> values(const std::vector<int64_t>& ne, float scale = 0) {
    if (scale == 0) scale = 2.0F / std::sqrt(static_cast<float>(ne[0]));
    return random_values(++seed_, product(ne), scale);
  }
  void add(const std::string& name, const std::vector<int64_t>& ne, float scale = 0) {
    const bool fits =
        ne.size() == 2 && ne[0] % ggml_blck_size(o_.dense_type) == 0 && !name.contains("gate_inp");
    w_.add_values(name, fits ? o_.dense_type : GGML_TYPE_F32, ne, values(ne, scale));
  }

  void gqa() {
    const int64_t n_q = kHeads * 16;
    const int64_t n_kv = 2 * 16;
    add(prefix_ + "attn_q.weight", {o_.n_embd, n_q});
    add(prefix_ + "attn_k.weight", {o_.n_embd, n_kv});
    add(prefix_ + "attn_v.weight", {o_.n_embd, n_kv});
    add(prefix_ + "attn_output.weight", {n_q, o_.n_embd});
    if (qwen2()) {
      add(prefix_ + "attn_q.bias", {n_q}, 0.1F);
      add(prefix_ + "attn_k.bias", {n_kv}, 0.1F);
      add(prefix_ + "attn_v.bias", {n_kv}, 0.1F);
    } else {
      ones(prefix_ + "attn_q_norm.weight", 16);
      ones(prefix_ + "attn_k_norm.weight", 16);
    }
  }

  void mla() {
    constexpr int64_t kRank = 32;
    constexpr int64_t kNope = 16;
    constexpr int64_t kRope = 16;
    constexpr int64_t kValue = 16;
    const int64_t n_q = kHeads * (kNope + kRope);
    if (o_.q_lora) {
      add(prefix_ + "attn_q_a.weight", {o_.n_embd, 32});
      ones(prefix_ + "attn_q_a_norm.weight", 32);
      add(prefix_ + "attn_q_b.weight", {32, n_q});
    } else {
      add(prefix_ + "attn_q.weight", {o_.n_embd, n_q});
    }
    add(prefix_ + "attn_kv_a_mqa.weight", {o_.n_embd, kRank + kRope});
    ones(prefix_ + "attn_kv_a_norm.weight", kRank);
    const std::vector<float> k_b = values({kNope, kRank, kHeads});
    const std::vector<float> v_b = values({kRank, kValue, kHeads});
    if (o_.joint_kv_b) {
      std::vector<float> kv_b;
      for (int64_t head = 0; head < kHeads; ++head) {
        for (int64_t n = 0; n < kNope; ++n) {
          for (int64_t c = 0; c < kRank; ++c) {
            kv_b.push_back(k_b[static_cast<size_t>((head * kRank + c) * kNope + n)]);
          }
        }
        const auto first = v_b.begin() + head * kValue * kRank;
        kv_b.insert(kv_b.end(), first, first + kValue * kRank);
      }
      w_.add_values(prefix_ + "attn_kv_b.weight", GGML_TYPE_F32, {kRank, kHeads * (kNope + kValue)}, kv_b);
    } else {
      w_.add_values(prefix_ + "attn_k_b.weight", GGML_TYPE_F32, {kNope, kRank, kHeads}, k_b);
      w_.add_values(prefix_ + "attn_v_b.weight", GGML_TYPE_F32, {kRank, kValue, kHeads}, v_b);
    }
    add(prefix_ + "attn_output.weight", {kHeads * kValue, o_.n_embd});
  }

  void dense_ffn(std::string_view suffix, int64_t n_ff) {
    add(odmoe::format("{}ffn_gate{}.weight", prefix_, suffix), {o_.n_embd, n_ff});
    add(odmoe::format("{}ffn_up{}.weight", prefix_, suffix), {o_.n_embd, n_ff});
    add(odmoe::format("{}ffn_down{}.weight", prefix_, suffix), {n_ff, o_.n_embd});
  }

  void add_experts(const std::string& name, ggml_type type, const std::vector<int64_t>& ne,
                   std::vector<float> v) {
    if (o_.round_to != GGML_TYPE_COUNT) {
      const auto* traits = ggml_get_type_traits(o_.round_to);
      std::vector<std::byte> bytes(GgufWriter::tensor_bytes(o_.round_to, ne));
      GgufWriter::quantize(o_.round_to, v, ne[0], bytes);
      traits->to_float(bytes.data(), v.data(), product(ne));
    }
    w_.add_values(name, type, ne, v);
  }

  void experts(int index) {
    const int64_t d = o_.n_embd;
    const int64_t f = o_.n_ff_exp;
    const int64_t e = o_.n_expert;
    add(prefix_ + "ffn_gate_inp.weight", {d, e});
    if (deepseek() && o_.sigmoid_groups) add(prefix_ + "exp_probs_b.bias", {e}, 0.2F);
    const std::vector<float> gate = values({d, f, e});
    const std::vector<float> up = values({d, f, e});
    if (o_.merge_gate_up) {
      std::vector<float> merged;
      for (int64_t expert = 0; expert < e; ++expert) {
        for (const auto* part : {&gate, &up}) {
          merged.insert(merged.end(), part->begin() + expert * d * f, part->begin() + (expert + 1) * d * f);
        }
      }
      add_experts(prefix_ + "ffn_gate_up_exps.weight", o_.expert_type, {d, 2 * f, e}, merged);
    } else {
      add_experts(prefix_ + "ffn_gate_exps.weight", o_.expert_type, {d, f, e}, gate);
      add_experts(prefix_ + "ffn_up_exps.weight", o_.expert_type, {d, f, e}, up);
    }
    const bool other = index == 1 && o_.down_type != GGML_TYPE_COUNT;
    add_experts(prefix_ + "ffn_down_exps.weight", other ? o_.down_type : o_.expert_type, {f, d, e},
                values({f, d, e}));
    if (qwen2()) add(prefix_ + "ffn_gate_inp_shexp.weight", {d});
    if (qwen2() || deepseek()) dense_ffn("_shexp", f);
  }

  RunnableModelOptions o_;
  GgufWriter w_;
  std::string prefix_;
  uint32_t seed_ = 0;
};

}  // namespace

GgufWriter runnable_model(const RunnableModelOptions& options) { return Builder(options).build(); }

}  // namespace odmoe::testing
