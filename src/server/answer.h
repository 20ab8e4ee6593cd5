// The answer to a request as it comes: what its generations write, taken apart and counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "odmoe/chat.h"
#include "server/answer_event.h"
#include "server/api_error.h"
#include "server/channel.h"
#include "server/output/output_reader.h"
#include "server/request_memory.h"

namespace odmoe::server {

// How the text of an assistant is taken apart.
struct ChatAnswerOptions {
  const OutputFormat* format;
  OutputStart start = OutputStart::kAnswer;
  bool calls = false;                  // they are looked for
  std::shared_ptr<const Tools> tools;  // of these tools; null: none
  std::string id;                      // of the answer: what makes the ids of its calls
  bool one_call = false;               // a choice has said enough with its first call
};

struct AnswerOptions {
  bool stream = false;
  bool kept = true;  // until it is whole: by the answer, or by who writes the stream
  // [n_choice] Choices of one prompt share its tokens: counted once.
  std::vector<size_t> prompt_of_choice;
  std::vector<AnswerChoice> begun;        // [n_choice] with the text that is continued
  std::optional<ChatAnswerOptions> chat;  // nothing: text as it comes
  RequestMemory::Share memory;            // what is kept until the answer is whole is taken from it
};

// What kError and kForbidden are to the client.
ApiError failure(Ending ending, const Error& error);

// Takes the events of one request's generations.  One owner.
class Answer {
 public:
  explicit Answer(AnswerOptions options);

  // What the event adds to the answer, of a stream; of others it is kept.  Nothing once there is an error.
  std::optional<AnswerEvent> take(const ChannelEvent& event);

  bool finished() const { return n_ended_ == choices_.size(); }
  // What failed: the first of its choices that did.
  const std::optional<ApiError>& error() const { return error_; }
  // A choice that has said enough, to be ended.
  bool enough(size_t choice) const { return one_call_ && n_call_[choice] > 0; }

  bool is_stream() const { return stream_; }
  // Once it is finished() all that they said; of a stream, what was there before.
  std::span<const AnswerChoice> choices() const { return choices_; }
  const AnswerUsage& usage() const { return usage_; }

 private:
  void count(const ChannelEvent& event);
  void count_thought(const ChannelEvent& event, const AnswerEvent& said);
  AnswerEvent say(const ChannelEvent& event);

  bool stream_, kept_, one_call_;
  std::vector<size_t> prompt_of_choice_;
  std::vector<bool> counted_;  // prompts
  std::vector<AnswerChoice> choices_;
  std::vector<std::unique_ptr<OutputReader>> texts_;  // [n_choice] of a chat
  std::vector<size_t> n_call_;                        // [n_choice]
  std::vector<int32_t> n_wanted_;                     // [n_choice] tokens until it had said enough
  std::vector<int32_t> n_untold_;                     // [n_choice] tokens of which nothing was said yet
  RequestMemory::Share memory_;
  size_t n_ended_ = 0;
  AnswerUsage usage_;
  std::optional<ApiError> error_;
};

}  // namespace odmoe::server
