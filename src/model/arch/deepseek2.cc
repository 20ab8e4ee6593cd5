// DeepSeek-V2, V2-Lite, V3, R1 and Kimi-K2, K2.5 (arXiv:2405.04434, 2412.19437): multi-head latent attention,
// leading dense layers, shared experts, softmax or sigmoid routing with a selection bias and expert groups.
// Mistral Small 4 and Mistral Large 3 have the same graph, and queries that grow with their position.
#include "model/arch/architecture.h"
#include "model/arch/metadata.h"
#include "model/arch/registry.h"
#include "model/blocks/mla.h"
#include "model/blocks/shared_expert.h"

namespace odmoe {
namespace {

class Deepseek2 final : public Architecture {
 public:
  Deepseek2(ModelShape shape, const MlaShape& mla, int64_t n_ff_shared)
      : Architecture(std::move(shape)),
        mla_(mla),
        shared_{.n_embd = this->shape().n_embd, .n_ff = n_ff_shared} {
    layers_.resize(static_cast<size_t>(this->shape().n_layer));
  }

  std::vector<StateTensor> state(int /*layer*/) const override {
    return {StateTensor::rows(mla_.cache_row())};
  }

  void declare(DenseWeights& weights, int layer) override {
    Layer& w = layers_[static_cast<size_t>(layer)];
    w.mla = declare_mla(weights, mla_, layer);
    if (has_shared_expert() && shape().has_experts(layer)) {
      w.shared = declare_shared_expert(weights, shared_, layer);
    }
  }

  ggml_tensor* attention(const LayerInputs& inputs, int layer, ggml_tensor* x) const override {
    return mla(inputs, mla_, layers_[static_cast<size_t>(layer)].mla, layer, x);
  }

  bool scales_queries() const override { return mla_.temperature.scale != 0; }
  float query_scale(int64_t position) const override { return mla_.temperature.at(position); }

  bool has_shared_expert() const override { return shared_.n_ff > 0; }
  ggml_tensor* shared_expert(ggml_context* ctx, int layer, ggml_tensor* x) const override {
    if (!has_shared_expert()) return nullptr;
    return odmoe::shared_expert(ctx, shared_, layers_[static_cast<size_t>(layer)].shared, x);
  }

 private:
  struct Layer {
    MlaWeights mla;
    SharedExpertWeights shared;
  };
  MlaShape mla_;
  SharedExpertShape shared_;
  std::vector<Layer> layers_;
};

// With keys of the heads' own lengths, the plain ones are those of the cache, which follow from others.  Some
// converters leave the heads' lengths in them.
Status check_cache_lengths(const Metadata& m, const MlaShape& mla, int32_t head_dim) {
  const auto check = [&m](std::string_view name, int64_t cache, int64_t head) -> Status {
    ODMOE_ASSIGN_OR_RETURN(const int32_t value,
                           m.integer_or(name, static_cast<int32_t>(cache), 1, INT32_MAX));
    if (value == cache || value == head) return {};
    return fail(ErrorKind::kBadFile, "{}: {} is {}; {} was expected", m.file().path().string(), m.key(name),
                value, cache);
  };
  ODMOE_RETURN_IF_ERROR(check("attention.key_length", mla.cache_row(), head_dim));
  return check("attention.value_length", mla.kv_lora_rank, mla.value_dim);
}

Result<float> read_softmax_scale(const Metadata& m, int64_t head_dim, RopeOptions& rope) {
  ODMOE_ASSIGN_OR_RETURN(const float log_multiplier, m.number_or("rope.scaling.yarn_log_multiplier", 0));
  return mla_softmax_scale(head_dim, log_multiplier, rope);
}

Result<QueryTemperature> read_temperature(const Metadata& m) {
  QueryTemperature temperature;
  ODMOE_ASSIGN_OR_RETURN(temperature.scale, m.number_or("attention.temperature_scale", 0));
  const bool on = temperature.scale != 0;
  ODMOE_ASSIGN_OR_RETURN(const int32_t length,
                         m.integer_or("attention.temperature_length", 0, on ? 1 : 0, INT32_MAX));
  if (on && length == 0) {
    return fail(ErrorKind::kBadFile, "{}: {} without {}; download the model again", m.file().path().string(),
                m.key("attention.temperature_scale"), m.key("attention.temperature_length"));
  }
  temperature.length = static_cast<uint32_t>(length);
  return temperature;
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_deepseek2(const Metadata& m) {
  constexpr int32_t kMaxDim = 1 << 16;
  ODMOE_ASSIGN_OR_RETURN(ModelShape shape, read_shape(m, {.scales = true, .selection_bias = kSelectionBias}));
  // Files of GLM-4.7-Flash were made before its converter said how it routes; it is known by its sizes, as in
  // llama.cpp.
  constexpr int32_t kGlmVocabulary = 154880;
  if (!m.has("expert_gating_func") && (shape.n_layer == 47 || shape.n_layer == 48) &&
      shape.n_vocab == kGlmVocabulary) {
    shape.router.gating = Gating::kSigmoid;
  }

  MlaShape mla{.n_embd = shape.n_embd, .n_head = shape.n_head, .norm_eps = shape.norm_eps, .rope = {}};
  ODMOE_ASSIGN_OR_RETURN(mla.q_lora_rank, m.integer_or("attention.q_lora_rank", 0, 0, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(mla.kv_lora_rank, m.integer("attention.kv_lora_rank", 1, kMaxDim));
  // Files made for absorbed attention give the compressed lengths as key_length and the heads' own as *_mla.
  const bool has_mla_keys = m.has("attention.key_length_mla");
  ODMOE_ASSIGN_OR_RETURN(
      const int32_t head_dim,
      m.integer(has_mla_keys ? "attention.key_length_mla" : "attention.key_length", 2, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(
      mla.value_dim,
      m.integer(has_mla_keys ? "attention.value_length_mla" : "attention.value_length", 1, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(mla.rope_dim, m.integer("rope.dimension_count", 2, head_dim - 1));
  mla.nope_dim = head_dim - mla.rope_dim;
  if (has_mla_keys) ODMOE_RETURN_IF_ERROR(check_cache_lengths(m, mla, head_dim));
  ODMOE_ASSIGN_OR_RETURN(
      mla.rope, read_rope(m.account(), m.arch(), RopePairs::kAdjacent, static_cast<int32_t>(mla.rope_dim)));
  ODMOE_ASSIGN_OR_RETURN(mla.kq_scale, read_softmax_scale(m, head_dim, mla.rope));
  ODMOE_ASSIGN_OR_RETURN(mla.temperature, read_temperature(m));

  ODMOE_ASSIGN_OR_RETURN(const int32_t n_ff_shared, read_shared_width(m, shape));
  return std::make_unique<Deepseek2>(std::move(shape), mla, n_ff_shared);
}

}  // namespace odmoe
