// Which chat template, and with which variables.
#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <string>

#include "odmoe/chat_template.h"
#include "odmoe/result.h"

namespace odmoe::cli {

struct ChatTemplateOptions {
  std::string name;    // a file or a built-in template; empty: the model's own
  std::string kwargs;  // JSON; empty: none
};

// --chat-template and --chat-template-kwargs.  `options` must outlive `command`.
std::array<CLI::Option*, 2> add_chat_template_options(CLI::App& command, ChatTemplateOptions& options,
                                                      const std::string& group);

// Reads the file.  kUsage: there is neither a file nor a built-in template of that name.
Result<ChatTemplateChoice> chosen_chat_template(const ChatTemplateOptions& options);

}  // namespace odmoe::cli
