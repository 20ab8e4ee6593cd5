// The keys that need not be used, each with the reason: because of what they are about, or because of their
// value.
#pragma once

#include <string_view>

#include "format/checkpoint.h"

namespace odmoe {

// Why `key` of the file, which nobody read, changes no result of a model of that architecture.  Empty: it
// may.
std::string_view reason_to_pass_over(const Checkpoint& file, std::string_view architecture,
                                     std::string_view key);

}  // namespace odmoe
