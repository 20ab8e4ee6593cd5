// How SentencePiece writes tokens: U+2581 (lower one eighth block) for a space, "<0x0A>" for a single byte.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace odmoe {

inline constexpr std::string_view kLowerBlock = "\u2581";

// `text` with a space for each U+2581.
std::string spaces_for_lower_blocks(std::string_view text);

// The byte that "<0x0A>" stands for; nothing for what is not written so.
std::optional<std::string> decode_byte_token(std::string_view text);

}  // namespace odmoe
