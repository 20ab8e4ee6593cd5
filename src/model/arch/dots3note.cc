// dots.3-note (text): multi-head latent attention of two sizes, in some layers to a window, in the others to
// rows that an indexer chooses; the rotated part of keys is normalised, and the output has a gate per head;
// leading dense layers, sigmoid routing with a selection bias, a shared expert.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "model/arch/registry.h"
#include "model/arch/sparse_mla_model.h"

namespace odmoe {
namespace {

// Keys that have the ending _swa, and sliding_window.
Result<MlaShape> read_windowed(const Metadata& m, const MlaShape& full) {
  constexpr int32_t kMaxDim = 1 << 16;
  MlaShape s = full;
  const std::string path = m.file().path().string();
  ODMOE_ASSIGN_OR_RETURN(s.window, m.integer("attention.sliding_window", 1, 1 << 24));
  ODMOE_ASSIGN_OR_RETURN(s.kv_lora_rank, m.integer("attention.kv_lora_rank_swa", 1, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(const int32_t head_dim, m.integer("attention.key_length_mla_swa", 2, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(s.value_dim, m.integer("attention.value_length_mla_swa", 1, kMaxDim));
  ODMOE_ASSIGN_OR_RETURN(
      const int32_t n_rot,
      m.integer_or("rope.dimension_count_swa", static_cast<int32_t>(full.rope_dim), 2, head_dim - 1));
  if (n_rot != full.rope_dim) {
    return fail(ErrorKind::kUnsupported, "{}: {} is {}, and {} {}; they have to be equal", path,
                m.key("rope.dimension_count_swa"), n_rot, m.key("rope.dimension_count"), full.rope_dim);
  }
  s.nope_dim = head_dim - n_rot;
  // What is cached, as where there is no window.
  ODMOE_ASSIGN_OR_RETURN(const int32_t key, m.integer_or("attention.key_length_swa",
                                                         static_cast<int32_t>(s.cache_row()), 1, INT32_MAX));
  ODMOE_ASSIGN_OR_RETURN(
      const int32_t value,
      m.integer_or("attention.value_length_swa", static_cast<int32_t>(s.kv_lora_rank), 1, INT32_MAX));
  if (key != s.cache_row() || value != s.kv_lora_rank) {
    return fail(ErrorKind::kBadFile, "{}: {} is {} and {} {}; {} and {} were expected", path,
                m.key("attention.key_length_swa"), key, m.key("attention.value_length_swa"), value,
                s.cache_row(), s.kv_lora_rank);
  }
  ODMOE_ASSIGN_OR_RETURN(s.rope.freq_base, m.positive_or("rope.freq_base_swa", full.rope.freq_base));
  s.kq_scale = 1 / std::sqrt(static_cast<float>(head_dim));
  return s;
}

Result<std::vector<RowChoice>> read_choices(const Metadata& m, const ModelShape& shape) {
  ODMOE_ASSIGN_OR_RETURN(const std::vector<bool> windowed,
                         m.flags("attention.sliding_window_pattern", shape.n_layer));
  std::vector<bool> has_indexer(windowed.size(), true);
  if (m.has("attention.indexer.types")) {
    ODMOE_ASSIGN_OR_RETURN(has_indexer, m.flags("attention.indexer.types", shape.n_layer));
  }
  std::vector<RowChoice> choices;
  for (size_t layer = 0; layer < windowed.size(); ++layer) {
    if (!windowed[layer] && !has_indexer[layer]) {
      return fail(ErrorKind::kUnsupported,
                  "{}: {} says that layer {} has no indexer; it has no window either",
                  m.file().path().string(), m.key("attention.indexer.types"), layer);
    }
    choices.push_back(windowed[layer] ? RowChoice::kAll : RowChoice::kIndexer);
  }
  return choices;
}

}  // namespace

Result<std::unique_ptr<Architecture>> make_dots3note(const Metadata& m) {
  ODMOE_ASSIGN_OR_RETURN(
      SparseMlaModel model,
      read_sparse_mla_model(m, {.gating = Gating::kSigmoid, .scales = true, .selection_bias = kSelectionBias},
                            RopePairs::kHalves));
  MlaShape& mla = model.mla.mla;
  ODMOE_RETURN_IF_ERROR(refuse_rope_scaling(m, mla.rope));
  mla.gates_per_head = 1;
  mla.norms_rope_key = true;
  ODMOE_ASSIGN_OR_RETURN(model.windowed, read_windowed(m, mla));
  ODMOE_ASSIGN_OR_RETURN(model.choices, read_choices(m, model.mla.shape));
  return make_sparse_mla(std::move(model));
}

}  // namespace odmoe
