// Messages and commands as somebody types them, or as they come through a pipe, one a line.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "cli/input.h"
#include "cli/line_editor.h"
#include "odmoe/result.h"

namespace odmoe::cli {

// One owner.
class ChatInput {
 public:
  // `history` as of LineEditor.
  explicit ChatInput(const std::filesystem::path& history);

  bool interactive() const { return editor_ != nullptr; }
  struct Input {
    std::string text;            // empty: it was given up
    bool may_be_command = true;  // false: it was pasted, or stood between fences
  };
  // The next; lines between """ and """ are one.  Nothing at the end.  Errors as of LineEditor::next().
  Result<std::optional<Input>> next();

 private:
  Result<std::optional<LineEditor::Line>> line(const std::string& prompt);

  std::unique_ptr<LineEditor> editor_;  // null: not a terminal
  LineReader lines_;
};

}  // namespace odmoe::cli
