#include "cli/chat_input.h"

#include <string_view>

#include "cli/output.h"

namespace odmoe::cli {
namespace {

constexpr std::string_view kFence = R"(""")";

}  // namespace

ChatInput::ChatInput(const std::filesystem::path& history) {
  if (input_is_terminal() && Output::standard_error().is_terminal())
    editor_ = std::make_unique<LineEditor>(history);
}

Result<std::optional<ChatInput::Input>> ChatInput::next() {
  ODMOE_ASSIGN_OR_RETURN(auto first, line("> "));
  if (!first) return std::nullopt;
  if (first->pasted || !first->text.starts_with(kFence)) {
    if (editor_) editor_->remember(first->text);
    return Input{.text = std::move(first->text), .may_be_command = !first->pasted};
  }
  std::string message = first->text.substr(kFence.size());
  while (!message.ends_with(kFence)) {
    ODMOE_ASSIGN_OR_RETURN(const auto more, line(". "));
    if (!more) break;  // the end of the input ends the message
    if (more->given_up) return Input{.text = "", .may_be_command = false};
    if (!message.empty()) message += '\n';
    message += more->text;
  }
  if (message.ends_with(kFence)) message.resize(message.size() - kFence.size());
  if (message.ends_with('\n')) message.pop_back();
  if (editor_) editor_->remember(message);
  return Input{.text = std::move(message), .may_be_command = false};
}

Result<std::optional<LineEditor::Line>> ChatInput::line(const std::string& prompt) {
  if (editor_) return editor_->next(prompt);
  ODMOE_ASSIGN_OR_RETURN(auto text, lines_.next());
  if (!text) return std::nullopt;
  return LineEditor::Line{.text = std::move(*text)};
}

}  // namespace odmoe::cli
