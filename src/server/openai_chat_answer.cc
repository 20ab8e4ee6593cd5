#include <utility>

#include "odmoe/format.h"
#include "server/json_list.h"
#include "server/openai_answer.h"

namespace odmoe::server {
namespace {

Json function_call(const ChatToolCall& call, const std::string& arguments) {
  return {
      {"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", arguments}}}};
}

class ChatWriter final : public OpenAiWriter {
 public:
  ChatWriter(const AnswerStart& start, const OpenAiAnswerOptions& options)
      : OpenAiWriter(
            start, options,
            {.id_prefix = "chatcmpl-", .whole = "chat.completion", .chunk = "chat.completion.chunk"}),
        n_call_(start.n_choice) {}

 private:
  static Json message_of(const AnswerChoice& choice) {
    Json message = {{"role", "assistant"}, {"content", choice.content}, {"refusal", nullptr}};
    if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
    return message;
  }

  bool write_choice(size_t index, const AnswerChoice& choice, const BodySink& sink) const override {
    Json message = message_of(choice);
    if (!choice.calls.empty()) {
      if (choice.content.empty()) message["content"] = nullptr;
      message["tool_calls"] = Json::array();
      for (const ChatToolCall& call : choice.calls) {
        message["tool_calls"].push_back(function_call(call, call.arguments));
      }
    }
    if (!sink(odmoe::format("{{\"index\":{},\"message\":{},\"logprobs\":", index, dump_json(message))))
      return false;
    if (!has_logprobs()) {
      if (!sink("null")) return false;
    } else {
      const auto text = [&](size_t i) { return dump_json(logprob_of(choice.tokens[i])); };
      if (!sink("{\"content\":") || !write_json_list(choice.tokens.size(), text, sink)) return false;
      if (!sink(",\"refusal\":null}")) return false;
    }
    return sink(odmoe::format(",\"finish_reason\":{}}}", dump_json(finish_reason(choice.finish))));
  }

  std::vector<Json> begin_chunks(std::span<const AnswerChoice> choices) override {
    std::vector<Json> chunks;
    for (size_t i = 0; i < choices.size(); ++i) chunks.push_back(chunk_of(i, message_of(choices[i])));
    return chunks;
  }

  std::vector<Json> chunks_of(const AnswerEvent& event) override {
    std::vector<Json> chunks;
    if (!event.reasoning.empty()) {
      chunks.push_back(chunk_of(event.choice, {{"reasoning_content", event.reasoning}}));
    }
    if (!event.content.empty() || !event.tokens.empty()) {
      Json logprobs = nullptr;
      if (has_logprobs() && !event.tokens.empty()) {
        logprobs = {{"content", Json::array()}, {"refusal", nullptr}};
        for (const GeneratedToken& token : event.tokens) logprobs["content"].push_back(logprob_of(token));
      }
      chunks.push_back(chunk_of(event.choice, {{"content", event.content}}, std::move(logprobs)));
    }
    for (const ChatToolCall& call : event.calls) add_call(event.choice, call, chunks);
    if (event.finish) {
      chunks.push_back(chunk_of(event.choice, Json::object(), nullptr, finish_reason(*event.finish)));
    }
    return chunks;
  }

  // Its name first, then its arguments.
  void add_call(size_t choice, const ChatToolCall& call, std::vector<Json>& chunks) {
    const size_t n = n_call_[choice]++;
    const auto calls = [](Json one) { return Json{{"tool_calls", Json::array({std::move(one)})}}; };
    Json first = {{"index", n}};
    first.update(function_call(call, ""));
    chunks.push_back(chunk_of(choice, calls(std::move(first))));
    chunks.push_back(chunk_of(choice, calls({{"index", n}, {"function", {{"arguments", call.arguments}}}})));
  }

  Json chunk_of(size_t choice, Json delta, Json logprobs = nullptr, const char* finish = nullptr) const {
    Json json = chunk();
    json["choices"].push_back({{"index", choice},
                               {"delta", std::move(delta)},
                               {"logprobs", std::move(logprobs)},
                               {"finish_reason", finish == nullptr ? Json(nullptr) : Json(finish)}});
    return json;
  }

  Json logprob_of(const GeneratedToken& token) const { return openai_logprob(engine(), token); }

  std::vector<size_t> n_call_;  // [n_choice] told so far in a stream
};

}  // namespace

std::unique_ptr<AnswerWriter> openai_chat_writer(const AnswerStart& start,
                                                 const OpenAiAnswerOptions& options) {
  return std::make_unique<ChatWriter>(start, options);
}

}  // namespace odmoe::server
