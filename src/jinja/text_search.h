// Finding, splitting and replacing, as Python's str does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "jinja/text.h"
#include "jinja/value.h"

namespace odmoe::jinja {

// str.replace(); `most` < 0: all.  What is replaced is written by who wrote `to`.
Text replace_text(Heap& heap, const Text& text, std::string_view from, const Text& to, int64_t most = -1);

// str.split() and rsplit() at white space or at `separator`, which is not empty; `most` < 0: everywhere.
std::vector<Value> split_at_space(Heap& heap, const Text& text, int64_t most);
std::vector<Value> split_at(Heap& heap, const Text& text, std::string_view separator, int64_t most);
std::vector<Value> split_at_space_from_right(Heap& heap, const Text& text, int64_t most);
std::vector<Value> split_at_from_right(Heap& heap, const Text& text, std::string_view separator,
                                       int64_t most);
std::vector<Value> split_lines(Heap& heap, const Text& text, bool keep_ends);

// str.strip(); `chars` null: white space.
Text strip_text(Heap& heap, const Text& text, const Text* chars, bool left, bool right);

// In which case: str.upper() and the like.
enum class Casing { kUpper, kLower, kTitle, kCapitalize, kSwap, kFold };
Text change_casing(Heap& heap, const Text& text, Casing casing);

}  // namespace odmoe::jinja
