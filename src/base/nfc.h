// Unicode's composed normal form (NFC), in which a letter and its marks are one character where there is one.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace odmoe {

// Whether the text is in NFC for certain; of ordinary text that is in it this is true.
bool is_surely_nfc(std::string_view text);

// `text` in NFC; nothing when it is so already, which takes no copy where is_surely_nfc().  Bytes
// that are not UTF-8 stay as they are.  Linear but for marks in a row, which are sorted.
std::optional<std::string> compose_nfc(std::string_view text);

}  // namespace odmoe
