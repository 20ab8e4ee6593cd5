#include "cli/chat_template_options.h"

#include <filesystem>
#include <system_error>

#include "cli/input.h"
#include "model/tokenizer/built_in_templates.h"

namespace odmoe::cli {

std::array<CLI::Option*, 2> add_chat_template_options(CLI::App& command, ChatTemplateOptions& options,
                                                      const std::string& group) {
  CLI::Option* name = command
                          .add_option("--chat-template", options.name,
                                      "Template in place of the model's own: a file in Jinja, or one of " +
                                          built_in_chat_template_names())
                          ->type_name("FILE")
                          ->group(group);
  CLI::Option* kwargs =
      command
          .add_option("--chat-template-kwargs", options.kwargs,
                      R"(Variables for the template, as a JSON object: {"enable_thinking": false})")
          ->type_name("JSON")
          ->group(group);
  return {name, kwargs};
}

Result<ChatTemplateChoice> chosen_chat_template(const ChatTemplateOptions& options) {
  ChatTemplateChoice choice{.source = std::string(built_in_chat_template(options.name)),
                            .kwargs = options.kwargs};
  if (options.name.empty() || !choice.source.empty()) return choice;
  std::error_code error;
  if (!std::filesystem::exists(options.name, error)) {
    return fail(ErrorKind::kUsage,
                "there is neither a file nor a built-in chat template \"{}\": built in are {}", options.name,
                built_in_chat_template_names());
  }
  ODMOE_ASSIGN_OR_RETURN(choice.source, read_file(options.name));
  if (choice.source.empty()) return fail(ErrorKind::kUsage, "the chat template {} is empty", options.name);
  return choice;
}

}  // namespace odmoe::cli
