// The pairs of texts that clients of OpenAI's API keep with what they make.
#pragma once

#include "server/fields.h"

namespace odmoe::server {

// 400 when the field `metadata` is not what it may be: at most kMaxMetadata texts.
ApiStatus check_metadata(const Fields& fields);

}  // namespace odmoe::server
