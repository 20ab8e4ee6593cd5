// One create function per family; registry.cc lists them.
#pragma once

#include <memory>

#include "model/arch/architecture.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_deepseek2(const Checkpoint& file);
Result<std::unique_ptr<Architecture>> make_qwen2moe(const Checkpoint& file);
Result<std::unique_ptr<Architecture>> make_qwen3moe(const Checkpoint& file);

}  // namespace odmoe
