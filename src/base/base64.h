// RFC 4648's base64.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace odmoe {

std::string encode_base64(std::string_view bytes);

// The bytes of `text`, whose white space is skipped and whose padding may be missing; nothing when it is no
// base64 or stands for more than `max_bytes`.
std::optional<std::string> decode_base64(std::string_view text, size_t max_bytes);

}  // namespace odmoe
