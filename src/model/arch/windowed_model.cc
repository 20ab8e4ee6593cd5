#include "model/arch/windowed_model.h"

namespace odmoe {
namespace {

constexpr int32_t kMaxDim = 1 << 16;
constexpr int32_t kMaxWindow = 1 << 27;

// attention.head_count and head_count_kv, by layer or one for all.
Status read_layer_heads(const Metadata& m, GqaModel& model) {
  const int32_t n_layer = model.shape.n_layer;
  ODMOE_ASSIGN_OR_RETURN(const std::vector<int32_t> heads,
                         m.integers("attention.head_count", n_layer, 1, kMaxHeads));
  std::vector<int32_t> heads_kv = heads;
  if (m.has("attention.head_count_kv")) {
    ODMOE_ASSIGN_OR_RETURN(heads_kv, m.integers("attention.head_count_kv", n_layer, 1, kMaxHeads));
  }
  for (size_t i = 0; i < model.layers.size(); ++i) {
    if (heads[i] % heads_kv[i] != 0) {
      return fail(ErrorKind::kBadFile, "{}: {} heads of layer {} do not divide among {} KV heads",
                  m.file().path().string(), heads[i], i, heads_kv[i]);
    }
    model.layers[i].n_head = heads[i];
    model.layers[i].n_head_kv = heads_kv[i];
  }
  return {};
}

// What layers with a window have of their own.
Result<GqaShape> read_windowed_shape(const Metadata& m, const WindowRules& rules, const GqaShape& full,
                                     int32_t window) {
  GqaShape gqa = full;
  gqa.rows = {.window = window};
  const auto head_dim = static_cast<int32_t>(full.head_dim);
  const auto value_dim = static_cast<int32_t>(full.value_dim);
  ODMOE_ASSIGN_OR_RETURN(gqa.head_dim, m.integer_or("attention.key_length_swa", head_dim, 2, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(gqa.value_dim, m.integer_or("attention.value_length_swa", value_dim, 2, kMaxDim));
  RopeOptions& rope = gqa.rope;
  ODMOE_ASSIGN_OR_RETURN(rope.n_rot, m.integer_or("rope.dimension_count_swa", rope.n_rot, 2, kMaxDim));
  if (rope.n_rot > gqa.head_dim || rope.n_rot % 2 != 0) {
    return fail(ErrorKind::kBadFile, "{}: RoPE of layers with a window turns {} of {} dimensions",
                m.file().path().string(), rope.n_rot, gqa.head_dim);
  }
  const float otherwise = rules.freq_base == 0 ? rope.freq_base : rules.freq_base;
  ODMOE_ASSIGN_OR_RETURN(rope.freq_base, m.positive_or("rope.freq_base_swa", otherwise));
  if (!rules.own_freq_base && rope.freq_base != full.rope.freq_base) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}, not {} as in the other layers, which {} models have",
                m.file().path().string(), m.key("rope.freq_base_swa"), rope.freq_base, full.rope.freq_base,
                m.arch());
  }
  if (rules.rope != WindowRope::kAsOthers) {
    rope.freq_scale = 1;
    rope.ext_factor = 0;
  }
  if (rules.rope == WindowRope::kPlain) rope.attn_factor = 1;
  return gqa;
}

}  // namespace

Result<std::vector<bool>> read_window_layers(const Metadata& m, const ModelShape& shape,
                                             const WindowRules& rules) {
  constexpr std::string_view kKey = "attention.sliding_window_pattern";
  const int32_t n_layer = shape.n_layer;
  const bool is_number = m.has(kKey) && m.file().get_int(m.key(kKey)).has_value();
  if (!is_number && (m.has(kKey) || rules.period == 0)) return m.flags(kKey, n_layer);
  ODMOE_ASSIGN_OR_RETURN(const int32_t period, m.integer_or(kKey, rules.period, 0, n_layer + 1024));
  std::vector<bool> windowed(static_cast<size_t>(n_layer));
  for (int32_t i = 0; i < n_layer; ++i) {
    // llama.cpp's meaning of 0: all layers have a window.
    windowed[static_cast<size_t>(i)] =
        period == 0 || (rules.full_first ? i % period != 0 : i % period < period - 1);
  }
  return windowed;
}

Status read_windows(const Metadata& m, const WindowRules& rules, GqaModel& model) {
  int32_t window = 0;
  if (rules.required) {
    ODMOE_ASSIGN_OR_RETURN(window, m.integer("attention.sliding_window", 1, kMaxWindow));
  } else {
    ODMOE_ASSIGN_OR_RETURN(window, m.integer_or("attention.sliding_window", 0, 0, kMaxWindow));
  }
  model.layers.assign(static_cast<size_t>(model.shape.n_layer), model.gqa);
  if (window > 0) {
    ODMOE_ASSIGN_OR_RETURN(const std::vector<bool> windowed, read_window_layers(m, model.shape, rules));
    ODMOE_ASSIGN_OR_RETURN(const GqaShape gqa, read_windowed_shape(m, rules, model.gqa, window));
    for (size_t i = 0; i < model.layers.size(); ++i) {
      if (windowed[i]) {
        model.layers[i] = gqa;
      } else if (!rules.full_rope) {
        model.layers[i].rope.n_rot = 0;
      }
    }
  }
  return read_layer_heads(m, model);
}

}  // namespace odmoe
