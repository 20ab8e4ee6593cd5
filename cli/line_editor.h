// Lines that somebody types at a terminal: edited, with those of before, and with what is pasted in one
// piece.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "odmoe/result.h"

namespace odmoe::cli {

// One owner, and one at a time.  It sets the terminal as it needs it while it reads, and back.
class LineEditor {
 public:
  // Standard input must be a terminal; prompts go to standard error.  `history`: where lines of before are,
  // and are kept when it ends; empty: they are not.
  explicit LineEditor(const std::filesystem::path& history);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  struct Line {
    std::string text;       // without its end; it has newlines where it was pasted
    bool pasted = false;    // it begins with what was pasted
    bool given_up = false;  // by Ctrl-C, with something typed: what is here is nothing
  };
  // The next one.  Nothing at the end (Ctrl-D).  kInterrupted when Ctrl-C came with nothing typed; kIo.
  Result<std::optional<Line>> next(const std::string& prompt);
  // So that the arrow brings it back.
  void remember(const std::string& text);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace odmoe::cli
