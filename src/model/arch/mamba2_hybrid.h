// Families with Mamba-2 in the layers without heads of keys.
#pragma once

#include <memory>

#include "model/arch/gqa_model.h"

namespace odmoe {

// The architecture of a model that is whole but for Mamba-2, which is read here (ssm.*).
Result<std::unique_ptr<Architecture>> make_mamba2_hybrid(const Metadata& metadata, GqaModel model);

}  // namespace odmoe
