// Halves of characters in JSON: "\ud83d" without the other half, as a text has it that was cut between the
// two.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace odmoe {

// The JSON text with "\ufffd" for every escape of a half that stands alone; nothing where there is none, and
// then nothing was copied.  Whatever else is wrong with the text stays as it is.
std::optional<std::string> without_lone_surrogates(std::string_view json);

}  // namespace odmoe
