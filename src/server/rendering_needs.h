// The memory that putting a conversation into a chat template takes.
#pragma once

#include <cstdint>

#include "odmoe/chat.h"

namespace odmoe::server {

struct RenderingNeeds {
  uint64_t text = 0;      // bytes of what is said
  uint64_t values = 0;    // what the template computes with (ChatTemplateLimits::memory_bytes)
  uint64_t messages = 0;  // the same before and behind it

  uint64_t all() const { return values + messages; }
};

// Enough for templates that build their text once, whatever its parts are; others run into the limit.
RenderingNeeds rendering_needs(const Conversation& conversation);

}  // namespace odmoe::server
