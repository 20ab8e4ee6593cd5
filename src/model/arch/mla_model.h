// Families of multi-head latent attention: what their metadata have in common.
#pragma once

#include "model/arch/metadata.h"
#include "model/blocks/mla.h"

namespace odmoe {

struct MlaModel {
  ModelShape shape;
  MlaShape mla;
};

// Reads the shape, attention's and RoPE.  The queries' temperature is the family's to add.
Result<MlaModel> read_mla_model(const Metadata& metadata, const FamilyRules& rules,
                                RopePairs pairs = RopePairs::kAdjacent);

}  // namespace odmoe
