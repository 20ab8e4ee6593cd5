#include "server/anthropic_answer.h"

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "odmoe/format.h"
#include "server/call_arguments.h"
#include "server/json_guard.h"

namespace odmoe::server {
namespace {

// Of a thought: clients send it back, and some leave out a thought without one.  Nobody looks at it here.
constexpr const char* kSignature = "unsigned";

constexpr std::string_view kPing = "event: ping\ndata: {\"type\":\"ping\"}\n\n";

const char* anthropic_error_type(const ApiError& error) {
  switch (error.status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 408:
    case 504:
      return "timeout_error";
    default:
      return error.status >= 500 ? "api_error" : "invalid_request_error";
  }
}

Json anthropic_usage(const AnswerUsage& usage) {
  return {{"input_tokens", usage.prompt - usage.reused},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.reused},
          {"output_tokens", usage.generated}};
}

// Why it ended, of an event or a choice.
template <typename Ended>
Json stop_of(const Ended& ended, AnswerFinish finish) {
  const char* reason = "end_turn";
  switch (finish) {
    case AnswerFinish::kCalls:
      reason = "tool_use";
      break;
    case AnswerFinish::kLength:
      reason = ended.context_full ? "model_context_window_exceeded" : "max_tokens";
      break;
    case AnswerFinish::kStop:
      if (!ended.stop_string.empty()) reason = "stop_sequence";
      break;
  }
  const bool by_string = finish == AnswerFinish::kStop && !ended.stop_string.empty();
  return {{"stop_reason", reason}, {"stop_sequence", by_string ? Json(ended.stop_string) : Json(nullptr)}};
}

std::string sse_event(const Json& data) {
  return odmoe::format("event: {}\ndata: {}\n\n", data["type"].get_ref<const std::string&>(),
                       dump_json(data));
}

class AnthropicWriter final : public AnswerWriter {
 public:
  AnthropicWriter(const AnswerStart& start, const AnthropicAnswerOptions& options)
      : id_("msg_" + start.id),
        model_(start.model),
        prompt_tokens_(start.prompt_tokens),
        shows_thoughts_(options.shows_thoughts) {}

  std::string_view stream_type() const override { return "text/event-stream"; }
  std::string_view whole_type() const override { return "application/json"; }
  std::string_view keep_alive() const override { return kPing; }

  bool begin(std::span<const AnswerChoice> /*choices*/, const BodySink& sink) override {
    Json message = head();
    message["content"] = Json::array();
    message["stop_reason"] = nullptr;
    message["stop_sequence"] = nullptr;
    // What of it was there already is known once it is read; message_delta tells.
    message["usage"] = anthropic_usage({.prompt = prompt_tokens_});
    return sink(sse_event({{"type", "message_start"}, {"message", std::move(message)}}));
  }

  bool write(const AnswerEvent& event, const BodySink& sink) override {
    std::string text;
    if (!event.reasoning.empty()) {
      open(Block::kThinking, text);
      if (shows_thoughts_) delta({{"type", "thinking_delta"}, {"thinking", event.reasoning}}, text);
    }
    if (!event.content.empty()) {
      open(Block::kText, text);
      delta({{"type", "text_delta"}, {"text", event.content}}, text);
    }
    for (const ChatToolCall& call : event.calls) add_call(call, text);
    if (event.finish) stop_ = stop_of(event, *event.finish);
    return text.empty() || sink(text);
  }

  bool end(const AnswerUsage& usage, const BodySink& sink) override {
    std::string text;
    close(text);
    text += sse_event({{"type", "message_delta"}, {"delta", stop_}, {"usage", anthropic_usage(usage)}});
    text += sse_event({{"type", "message_stop"}});
    return sink(text);
  }

  bool fail(const ApiError& error, const BodySink& sink) override {
    return sink("event: error\ndata: " + anthropic_error(error) + "\n\n");
  }

  bool write_whole(std::span<const AnswerChoice> choices, const AnswerUsage& usage,
                   const BodySink& sink) const override {
    const AnswerChoice& choice = choices.front();
    std::string text = dump_json(head());
    text.pop_back();  // the object goes on
    text += ",\"content\":[";
    const char* between = "";
    const auto add = [&](const std::string& block) { text += std::exchange(between, ",") + block; };
    if (!choice.reasoning.empty()) {
      add(dump_json({{"type", "thinking"},
                     {"thinking", shows_thoughts_ ? choice.reasoning : ""},
                     {"signature", kSignature}}));
    }
    if (!choice.content.empty()) add(dump_json({{"type", "text"}, {"text", choice.content}}));
    for (const ChatToolCall& call : choice.calls) {
      add(dump_json(tool_use(call, arguments_object(call))));
    }
    const Json stop = stop_of(choice, choice.finish);
    text += odmoe::format("],\"stop_reason\":{},\"stop_sequence\":{},\"usage\":{}}}\n",
                          dump_json(stop["stop_reason"]), dump_json(stop["stop_sequence"]),
                          dump_json(anthropic_usage(usage)));
    return sink(text);
  }

 private:
  enum class Block : uint8_t { kNone, kThinking, kText };

  Json head() const { return {{"id", id_}, {"type", "message"}, {"role", "assistant"}, {"model", model_}}; }
  static Json tool_use(const ChatToolCall& call, Json input) {
    return {{"type", "tool_use"}, {"id", call.id}, {"name", call.name}, {"input", std::move(input)}};
  }

  void delta(Json what, std::string& text) const {
    text += sse_event({{"type", "content_block_delta"}, {"index", index_}, {"delta", std::move(what)}});
  }
  void start(Json block, std::string& text) {
    text +=
        sse_event({{"type", "content_block_start"}, {"index", index_}, {"content_block", std::move(block)}});
    if (index_ == 0) text += kPing;
  }
  void stop(std::string& text) {
    text += sse_event({{"type", "content_block_stop"}, {"index", index_++}});
    block_ = Block::kNone;
  }
  void open(Block block, std::string& text) {
    if (block_ == block) return;
    close(text);
    block_ = block;
    start(block == Block::kText ? Json{{"type", "text"}, {"text", ""}}
                                : Json{{"type", "thinking"}, {"thinking", ""}, {"signature", ""}},
          text);
  }
  void close(std::string& text) {
    if (block_ == Block::kNone) return;
    if (block_ == Block::kThinking) delta({{"type", "signature_delta"}, {"signature", kSignature}}, text);
    stop(text);
  }
  void add_call(const ChatToolCall& call, std::string& text) {
    close(text);
    start(tool_use(call, Json::object()), text);
    delta({{"type", "input_json_delta"}, {"partial_json", dump_json(arguments_object(call))}}, text);
    stop(text);
  }

  std::string id_, model_;
  int32_t prompt_tokens_;
  bool shows_thoughts_;
  size_t index_ = 0;  // of the block that is open or comes next
  Block block_ = Block::kNone;
  Json stop_ = {{"stop_reason", nullptr}, {"stop_sequence", nullptr}};
};

}  // namespace

std::unique_ptr<AnswerWriter> anthropic_writer(const AnswerStart& start,
                                               const AnthropicAnswerOptions& options) {
  return std::make_unique<AnthropicWriter>(start, options);
}

std::string anthropic_error(const ApiError& error) {
  return dump_json({{"type", "error"},
                    {"error", {{"type", anthropic_error_type(error)}, {"message", error.message}}},
                    {"request_id", nullptr}});
}

}  // namespace odmoe::server
