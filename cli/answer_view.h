// Shows an answer as it comes: thoughts apart from what is said.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "cli/output.h"
#include "odmoe/chat.h"
#include "server/output/output_reader.h"

namespace odmoe::cli {

// One owner.
class AnswerView {
 public:
  // `dims`: thoughts are dim, as terminals show it; otherwise they stand between <think> and </think>.
  // The format and the output must outlive it.
  AnswerView(const server::OutputFormat& format, server::OutputStart start, Output& output, bool dims);

  // kIo as of Output::write().
  Status push(std::string_view text);
  // The end, whatever it was.
  Status finish();
  // As it goes into the conversation.
  ChatTurn turn() const { return turn_; }

 private:
  Status show(const server::OutputDelta& delta);
  Status end_thought();

  std::unique_ptr<server::OutputReader> reader_;
  Output* output_;
  bool dims_;
  bool in_thought_ = false;
  bool line_begun_ = false;
  ChatTurn turn_{.role = "assistant", .content = ""};
};

}  // namespace odmoe::cli
