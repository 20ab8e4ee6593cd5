// Answers in OpenAI's shapes, whole or as the chunks of a stream.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "odmoe/engine.h"
#include "server/api_error.h"
#include "server/assistant_text.h"
#include "server/channel.h"
#include "server/json_guard.h"
#include "server/json_pieces.h"
#include "server/request_memory.h"

namespace odmoe::server {

struct AnswerOptions {
  std::string id;
  std::string model;
  int64_t created = 0;  // Unix time
  size_t n_choice = 1;
  int32_t top_logprobs = -1;
  bool stream = false;
  bool include_usage = false;   // in a stream
  RequestMemory::Share memory;  // what is kept until the answer is whole is taken from it
};

// What kError and kForbidden are to the client.
ApiError failure(Ending ending, const Error& error);

// Takes the events of one request and makes of them what the client is sent.  One owner.
class Answer {
 public:
  Answer(const Engine& engine, AnswerOptions options);
  virtual ~Answer() = default;

  // Chunks to send before anything was generated, and for an event.  None unless it is a stream.
  virtual std::vector<Json> begin() { return {}; }
  std::vector<Json> take(const ChannelEvent& event);
  // The whole, once finished(), as JSON text in pieces, always the same ones: probabilities are kept as
  // numbers, and their text would be ten times as large.  False when the sink wanted no more.
  virtual bool write_whole(const PieceSink& sink) const = 0;
  // The last chunk, with the usage; nothing when it was not asked for.
  std::optional<Json> usage_chunk() const;

  bool finished() const { return n_ended_ == options_.n_choice; }
  // What failed: the first of its choices that did.
  const std::optional<ApiError>& error() const { return error_; }
  // A choice that has said enough, to be ended.
  virtual bool enough(size_t choice) const {
    (void)choice;
    return false;
  }
  int32_t prompt_tokens() const { return prompt_tokens_; }
  int32_t generated_tokens() const { return generated_tokens_; }
  int32_t reused_tokens() const { return reused_tokens_; }

 protected:
  virtual void add(const ChannelEvent& event, std::vector<Json>& chunks) = 0;
  // The whole of an answer whose choices write_choice() writes.
  bool write_envelope(const char* object, const PieceSink& sink) const;
  virtual bool write_choice(size_t index, const PieceSink& sink) const = 0;
  Json envelope(const char* object) const;
  Json usage() const;
  std::string text_of(Token token) const;  // with U+FFFD for parts of characters
  Json bytes_of(Token token) const;
  static const char* finish_reason(const ChannelEvent& event);

  const Engine* engine_;
  AnswerOptions options_;
  // Choices of one prompt share its tokens: counted once.
  std::vector<size_t> prompt_of_choice_;

 private:
  std::vector<bool> counted_;
  size_t n_ended_ = 0;
  int32_t prompt_tokens_ = 0, generated_tokens_ = 0, reused_tokens_ = 0;
  std::optional<ApiError> error_;
};

struct ChatAnswerOptions {
  std::optional<ToolCallSyntax> syntax;  // calls are looked for
  AssistantText::Start start = AssistantText::Start::kAnswer;
  std::string echo = {};  // of the thought or the answer that is gone on with: comes first
  bool one_call = false;  // parallel_tool_calls: false
};
std::unique_ptr<Answer> make_chat_answer(const Engine& engine, AnswerOptions options,
                                         const ChatAnswerOptions& chat);

// `n` choices of each prompt in turn; with echo, these texts come first.
std::unique_ptr<Answer> make_completion_answer(const Engine& engine, AnswerOptions options, int32_t n,
                                               std::optional<std::vector<std::string>> echo);

}  // namespace odmoe::server
