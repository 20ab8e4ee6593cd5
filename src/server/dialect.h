// How clients speak: the seam between serving and the words of an API.
//
// A dialect has routes, makes of a body what is to be generated, and writes what was generated, whole or as a
// stream, and what went wrong.  Who may ask, limits, queues, the drawing of tokens, and what of a text is
// thought, content or a call are seen to for it.  One is added by an object in dialects.cc (or given to
// Server::listen()).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "odmoe/engine.h"
#include "server/answer_event.h"
#include "server/api_error.h"
#include "server/body.h"
#include "server/generation_request.h"
#include "server/request_memory.h"
#include "server/routes.h"

namespace odmoe::server {

struct ServedModel;

// Writes one answer: either a stream or a whole.  One owner.
class AnswerWriter {
 public:
  virtual ~AnswerWriter() = default;

  // A stream, from begin() to end() or fail(), each false when the sink wanted no more.  What is given to the
  // sink goes out at once.
  virtual std::string_view stream_type() const = 0;  // Content-Type
  // Before anything was generated: `choices` have the text that is continued, where that was asked for.
  virtual bool begin(std::span<const AnswerChoice> choices, const BodySink& sink) = 0;
  virtual bool write(const AnswerEvent& event, const BodySink& sink) = 0;
  virtual bool end(const AnswerUsage& usage, const BodySink& sink) = 0;
  virtual bool fail(const ApiError& error, const BodySink& sink) = 0;
  // What may be sent between them, lest something on the way gives up; empty: nothing.
  virtual std::string_view keep_alive() const { return {}; }

  // A whole.  write_whole() is called twice and must write the same (Body::write).
  virtual std::string_view whole_type() const = 0;
  virtual bool write_whole(std::span<const AnswerChoice> choices, const AnswerUsage& usage,
                           const BodySink& sink) const = 0;
  // All of it is there; once, before it is written.
  virtual void complete(std::span<const AnswerChoice> /*choices*/, const AnswerUsage& /*usage*/) {}
};

// What an answer is of.
struct AnswerStart {
  const Engine* engine = nullptr;  // outlives the writer
  std::string id;                  // its own, of hexadecimal digits
  std::string model;               // as clients know it
  int64_t created = 0;             // Unix time
  size_t n_choice = 1;
  int32_t prompt_tokens = 0;  // of all prompts
};

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
// A request that was read.  Whatever of it only its writer needs is in `writer`.
struct ParsedRequest {
  GenerationRequest request = {};
  std::function<std::unique_ptr<AnswerWriter>(const AnswerStart&)> writer = {};
  // In place of these where nothing is to be generated: the answer.
  std::function<Body(const AnswerStart&)> at_once = {};
  // In place of `writer` on routes of Route::Handler::kPrompt: the answer.
  std::function<Body(const ServedModel& model, std::span<const Token> prompt)> prompted = {};
  // What of the memory that the request took its writer goes on to keep.
  uint64_t writer_bytes = 0;
  // The writer of a stream keeps what it wrote as well: it takes as much memory as a whole.
  bool writer_keeps_answer = false;
};

// A request of a route that generates nothing.
struct PlainRequest {
  std::string_view path;               // canonical
  std::string body;                    // of routes that take one
  RequestWork* work = nullptr;         // bounds what is taken for it; of the same routes
  std::string_view model_id;           // as clients know it
  std::shared_ptr<ServedModel> model;  // null while it loads, on routes that do not need it
  std::string owner = {};              // key_owner_of() in access.h
  std::multimap<std::string, std::string> query = {};
  // Of routes that read a body by themselves (Route::streams_body): its Content-Type, and what gives it as it
  // comes, once, with an error when it has more bytes.
  std::string content_type = {};
  std::function<ApiStatus(size_t max_bytes, const std::function<ApiStatus(std::string_view piece)>& take)>
      read_body = {};
};
// NOLINTEND(readability-redundant-member-init)

// Immutable, so thread-safe.
class Dialect {
 public:
  virtual ~Dialect() = default;

  // Its addresses, as long as it lives.
  virtual std::span<const Route> routes() const = 0;

  // Reads the body of a request for one of its routes of Route::Handler::kGenerate or kPrompt, within the
  // bounds of `work`, which keeps what the request takes.  `n_vocab`: tokens are below it.
  virtual ApiResult<ParsedRequest> parse(const Route& route, std::string_view body, int32_t n_vocab,
                                         RequestWork& work) const = 0;

  // Answers a request for one of its routes of Route::Handler::kPlain.  Asked for by many threads.
  virtual ApiResult<Body> answer(const Route& route, PlainRequest request) const = 0;

  // What went wrong with a request for one of its routes, with any of them: also what no part of it had a say
  // in (access, limits, the end of the server).
  virtual Body error(const ApiError& error) const = 0;
};

}  // namespace odmoe::server
