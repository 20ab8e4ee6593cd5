// Chat templates for models that bring none.
#pragma once

#include <string>
#include <string_view>

namespace odmoe {

// In Jinja; empty: there is none of that name.
std::string_view built_in_chat_template(std::string_view name);
// In one line.
std::string built_in_chat_template_names();

}  // namespace odmoe
