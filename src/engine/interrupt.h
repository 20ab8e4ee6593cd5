// Long work asks between its steps whether to go on.
#pragma once

#include <atomic>

#include "odmoe/result.h"

namespace odmoe {

// kInterrupted once `flag` is set; null: never.
inline Status check_interrupt(const std::atomic<bool>* flag) {
  if (flag != nullptr && flag->load(std::memory_order_relaxed)) {
    return fail(ErrorKind::kInterrupted, "interrupted");
  }
  return {};
}

}  // namespace odmoe
