// Answers in OpenAI's shapes, whole or as the chunks of a stream (server-sent events).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/dialect.h"
#include "server/json_guard.h"

namespace odmoe::server {

// How a client wants its answer written.
struct OpenAiAnswerOptions {
  int32_t top_logprobs = -1;   // -1: no logprobs
  bool include_usage = false;  // in a stream
};

std::unique_ptr<AnswerWriter> openai_chat_writer(const AnswerStart& start,
                                                 const OpenAiAnswerOptions& options);
std::unique_ptr<AnswerWriter> openai_completion_writer(const AnswerStart& start,
                                                       const OpenAiAnswerOptions& options);

// {"token", "logprob", "bytes", "top_logprobs"}
Json openai_logprob(const Engine& engine, const GeneratedToken& token);

// {"error": {"message", "type", "param", "code"}}
std::string openai_error(const ApiError& error);

// What the two have alike.  One owner.
class OpenAiWriter : public AnswerWriter {
 public:
  std::string_view stream_type() const override { return "text/event-stream"; }
  std::string_view whole_type() const override { return "application/json"; }
  std::string_view keep_alive() const override { return ": still here\n\n"; }
  bool begin(std::span<const AnswerChoice> choices, const BodySink& sink) override;
  bool write(const AnswerEvent& event, const BodySink& sink) override;
  bool end(const AnswerUsage& usage, const BodySink& sink) override;
  bool fail(const ApiError& error, const BodySink& sink) override;
  // As JSON text in pieces: probabilities are kept as numbers, and their text would be ten times as large.
  bool write_whole(std::span<const AnswerChoice> choices, const AnswerUsage& usage,
                   const BodySink& sink) const override;

 protected:
  // What the API calls its answers and their chunks.
  struct Names {
    const char* id_prefix;
    const char* whole;
    const char* chunk;
  };
  OpenAiWriter(const AnswerStart& start, const OpenAiAnswerOptions& options, const Names& names);

  virtual std::vector<Json> begin_chunks(std::span<const AnswerChoice> choices) = 0;
  virtual std::vector<Json> chunks_of(const AnswerEvent& event) = 0;
  virtual bool write_choice(size_t index, const AnswerChoice& choice, const BodySink& sink) const = 0;

  // A chunk that lacks its choices.
  Json chunk() const;
  std::string text_of(Token token) const;      // with U+FFFD for parts of characters
  std::string shown_bytes(Token token) const;  // what of it is in the text: nothing of a control token
  const Engine& engine() const { return *engine_; }
  static const char* finish_reason(AnswerFinish finish);
  bool has_logprobs() const { return options_.top_logprobs >= 0; }

 private:
  Json envelope(const char* object) const;

  const Engine* engine_;
  std::string id_, model_;
  int64_t created_;
  OpenAiAnswerOptions options_;
  Names names_;
};

}  // namespace odmoe::server
