// Families of multi-head latent attention: what their metadata have in common.
#pragma once

#include <cstdint>

#include "model/arch/metadata.h"
#include "model/blocks/mla.h"

namespace odmoe {

struct MlaModel {
  ModelShape shape;
  MlaShape mla;
};

// Whether keys have a part that is rotated.
enum class MlaPositions : uint8_t { kSome, kMayBeNone };

// Reads the shape, attention's and RoPE.  The queries' temperature is the family's to add.
Result<MlaModel> read_mla_model(const Metadata& metadata, const FamilyRules& rules,
                                RopePairs pairs = RopePairs::kAdjacent,
                                MlaPositions positions = MlaPositions::kSome);

}  // namespace odmoe
