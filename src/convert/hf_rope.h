// RoPE's keys: what config.json says under rope_theta, rope_scaling and rope_parameters.
#pragma once

#include <cstdint>
#include <vector>

#include "convert/hf_model.h"

namespace odmoe {

// Families differ in what YaRN's optional keys mean.
enum class HfYarn : uint8_t {
  kPlain,
  kDeepSeek,  // mscale and mscale_all_dim
  kGptOss,    // truncate
};

// rope.freq_base and rope.scaling.*.  Returns mscale_all_dim of YaRN, 0 without.
double map_rope(HfModelBuilder& builder, HfYarn yarn = HfYarn::kPlain);

// rope.dimension_count of a head of which only a part is rotated; `otherwise`: that part where config.json
// does not say it.
void map_rope_part(HfModelBuilder& builder, int64_t head_dim, double otherwise);

// rope.dimension_sections: mrope_section, which has time, height and width; `otherwise` where config.json
// does not say it.
void map_rope_sections(HfModelBuilder& builder, const std::vector<int64_t>& otherwise);

}  // namespace odmoe
