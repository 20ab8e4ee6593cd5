// The ExpertSource of an untouched GGUF: an expert is a slice of each of the layer's stacked tensors.
#pragma once

#include <memory>

#include "format/expert_source.h"
#include "format/gguf_file.h"

namespace odmoe {

inline constexpr int kMaxLayers = 4096;  // the deepest model known has 126

// Reads `blk.N.ffn_{gate,up,down}_exps.weight`, or the merged `ffn_gate_up_exps` (gate rows, then up rows),
// or up and down alone, of every layer below n_layer; a layer with none of them is dense.  Checks that the
// tensors of a layer agree with each other and with n_expert, and that ggml can multiply by their types.
// `n_expert_used` is passed through.  Copies what it needs: `file` may go. Errors: kBadFile naming the
// tensor, or that there is no layer with experts, or numbers outside 1 <= n_layer <= kMaxLayers, 1 <=
// n_expert_used <= n_expert; kUnsupported for a type that cannot be multiplied by.
Result<std::unique_ptr<ExpertSource>> make_gguf_experts(const GgufFile& file, int n_layer, int n_expert,
                                                        int n_expert_used);

}  // namespace odmoe
