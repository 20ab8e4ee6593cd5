// Families some of whose layers see a window of the last tokens only, and may differ from the others in their
// heads and in RoPE.
#pragma once

#include <cstdint>
#include <vector>

#include "model/arch/gqa_model.h"
#include "model/arch/metadata.h"
#include "odmoe/result.h"

namespace odmoe {

// RoPE's scaling in layers with a window.
enum class WindowRope : uint8_t {
  kAsOthers,
  kUnscaled,  // there is none, but for rope.scaling.attn_factor
  kPlain,     // there is none
};

struct WindowRules {
  bool required = true;  // attention.sliding_window; else without it, or where it is 0, no layer has one
  // attention.sliding_window_pattern is an array with true for a window, or a number n: one of n layers sees
  // everything.  This is n where the file does not say it; 0: it must.
  int32_t period = 0;
  bool full_first = false;    // which of n layers sees everything: the first, or the last
  float freq_base = 0;        // rope.freq_base_swa where the file does not say it; 0: rope.freq_base
  bool own_freq_base = true;  // it may be another than rope.freq_base
  WindowRope rope = WindowRope::kAsOthers;
  bool full_rope = true;  // layers that see everything have RoPE
};

// Which of the model's layers have a window, by attention.sliding_window_pattern.
Result<std::vector<bool>> read_window_layers(const Metadata& metadata, const ModelShape& shape,
                                             const WindowRules& rules);

// Reads the window, which layers have one, heads and RoPE of these and of the others (attention.*_swa,
// rope.*_swa, FamilyRules::heads_by_layer), and fills model.layers from model.gqa, which must be whole.
Status read_windows(const Metadata& metadata, const WindowRules& rules, GqaModel& model);

}  // namespace odmoe
