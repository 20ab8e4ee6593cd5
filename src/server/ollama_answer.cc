#include "server/ollama_answer.h"

#include <algorithm>
#include <chrono>
#include <span>
#include <string_view>
#include <utility>

#include "odmoe/format.h"
#include "server/call_arguments.h"
#include "server/json_guard.h"
#include "server/json_list.h"
#include "server/token_text.h"

namespace odmoe::server {
namespace {

// RFC 3339, of a Unix time.
std::string time_text(int64_t unix_time) {
  const std::chrono::sys_seconds at{std::chrono::seconds(unix_time)};
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(at - day);
  return odmoe::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                       static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                       time.hours().count(), time.minutes().count(), time.seconds().count());
}

int64_t nanoseconds(double milliseconds) { return static_cast<int64_t>(std::max(milliseconds, 0.0) * 1e6); }

// What is new, or all.
struct Said {
  std::string_view reasoning, content;
  std::span<const ChatToolCall> calls;
  size_t first_call = 0;  // number of the first of them
};

class OllamaWriter final : public AnswerWriter {
 public:
  OllamaWriter(const AnswerStart& start, const OllamaAnswerOptions& options)
      : engine_(start.engine),
        head_{{"model", start.model}, {"created_at", time_text(start.created)}},
        options_(options) {}

  std::string_view stream_type() const override { return "application/x-ndjson"; }
  std::string_view whole_type() const override { return "application/json; charset=utf-8"; }

  bool begin(std::span<const AnswerChoice> /*choices*/, const BodySink& /*sink*/) override { return true; }

  bool write(const AnswerEvent& event, const BodySink& sink) override {
    if (event.finish) finish_ = *event.finish;
    if (event.reasoning.empty() && event.content.empty() && event.calls.empty() && event.tokens.empty())
      return true;
    Json line = object({.reasoning = event.reasoning,
                        .content = event.content,
                        .calls = event.calls,
                        .first_call = n_call_});
    n_call_ += event.calls.size();
    line["done"] = false;
    if (options_.logprobs && !event.tokens.empty()) {
      line["logprobs"] = Json::array();
      for (const GeneratedToken& token : event.tokens) line["logprobs"].push_back(logprob_of(token));
    }
    return sink(dump_json(line) + "\n");
  }

  bool end(const AnswerUsage& usage, const BodySink& sink) override {
    Json line = object({});
    add_end(line, finish_, usage);
    return sink(dump_json(line) + "\n");
  }

  bool fail(const ApiError& error, const BodySink& sink) override { return sink(ollama_error(error) + "\n"); }

  bool write_whole(std::span<const AnswerChoice> choices, const AnswerUsage& usage,
                   const BodySink& sink) const override {
    const AnswerChoice& choice = choices.front();
    Json whole = object({.reasoning = choice.reasoning, .content = choice.content, .calls = choice.calls});
    add_end(whole, choice.finish, usage);
    std::string text = dump_json(whole);
    if (!options_.logprobs) return sink(text + "\n");
    text.pop_back();  // the object goes on
    const auto item = [&](size_t i) { return dump_json(logprob_of(choice.tokens[i])); };
    return sink(text + ",\"logprobs\":") && write_json_list(choice.tokens.size(), item, sink) && sink("}\n");
  }

  Json object(const Said& said) const {
    Json json = head_;
    Json calls = Json::array();
    for (size_t i = 0; i < said.calls.size(); ++i) {
      const ChatToolCall& call = said.calls[i];
      calls.push_back(
          {{"id", call.id},
           {"function",
            {{"index", said.first_call + i}, {"name", call.name}, {"arguments", arguments_object(call)}}}});
    }
    const bool chat = options_.shape == OllamaShape::kChat;
    Json message = chat ? Json{{"role", "assistant"}, {"content", said.content}} : Json();
    Json& place = chat ? message : json;
    if (!chat) json["response"] = said.content;
    if (!said.reasoning.empty()) place["thinking"] = said.reasoning;
    if (!calls.empty()) place["tool_calls"] = std::move(calls);
    if (chat) json["message"] = std::move(message);
    return json;
  }

 private:
  static void add_end(Json& json, AnswerFinish finish, const AnswerUsage& usage) {
    json["done"] = true;
    json["done_reason"] = finish == AnswerFinish::kLength ? "length" : "stop";
    json["total_duration"] =
        nanoseconds(std::max(usage.ttft_ms, usage.queue_ms)) + nanoseconds(usage.decode_ms);
    json["load_duration"] = nanoseconds(usage.queue_ms);  // it waits for a session rather than for a model
    json["prompt_eval_count"] = usage.prompt;
    json["prompt_eval_duration"] = nanoseconds(usage.ttft_ms - usage.queue_ms);
    json["eval_count"] = usage.generated;
    json["eval_duration"] = nanoseconds(usage.decode_ms);
  }

  Json logprob_of(const GeneratedToken& token) const {
    const auto one = [&](Token id, float logprob) {
      return Json{{"token", token_text(*engine_, id)},
                  {"logprob", logprob},
                  {"bytes", token_byte_list(*engine_, id)}};
    };
    Json json = one(token.token, token.logprob);
    if (!token.top.empty()) json["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.top)
      json["top_logprobs"].push_back(one(other.token, other.logprob));
    return json;
  }

  const Engine* engine_;
  Json head_;
  OllamaAnswerOptions options_;
  size_t n_call_ = 0;
  AnswerFinish finish_ = AnswerFinish::kStop;
};

}  // namespace

std::unique_ptr<AnswerWriter> ollama_writer(const AnswerStart& start, const OllamaAnswerOptions& options) {
  return std::make_unique<OllamaWriter>(start, options);
}

std::string ollama_loaded(const AnswerStart& start, OllamaShape shape) {
  Json json = OllamaWriter(start, {.shape = shape}).object({});
  json["done"] = true;
  json["done_reason"] = "load";
  return dump_json(json) + "\n";
}

std::string ollama_error(const ApiError& error) { return dump_json({{"error", error.message}}); }

}  // namespace odmoe::server
