// One create function per family; registry.cc lists them.
#pragma once

#include <memory>

#include "model/arch/architecture.h"

namespace odmoe {

Result<std::unique_ptr<Architecture>> make_deepseek2(Account& account);
Result<std::unique_ptr<Architecture>> make_qwen2moe(Account& account);
Result<std::unique_ptr<Architecture>> make_qwen3moe(Account& account);

}  // namespace odmoe
