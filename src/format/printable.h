// Foreign text made fit for one line on a terminal: error messages and `inspect` quote what a file holds.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace odmoe {

// `text` with control characters, backslashes and bytes that are not UTF-8 written as \n, \\, \x1b, and cut,
// with "..." behind, where it would exceed about `max_bytes`; never inside a character.
std::string printable(std::string_view text, size_t max_bytes = 120);

// A path so, with room for a long one.
std::string printable_path(const std::filesystem::path& path);

}  // namespace odmoe
