#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "model/tokenizer/tokenizer.h"
#include "odmoe/format.h"
#include "server/json_list.h"
#include "server/openai_answer.h"

namespace odmoe::server {
namespace {

// Where tokens begin in their text, in characters: a token that begins within one is where that begins.
class Offsets {
 public:
  // Of the next token, which has these bytes.
  size_t next(std::string_view bytes) {
    const size_t here = n_character_;
    for (const char c : decoder_.push_bytes(bytes)) n_character_ += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
    return here;
  }

 private:
  StreamDecoder decoder_;
  size_t n_character_ = 0;
};

class CompletionWriter final : public OpenAiWriter {
 public:
  CompletionWriter(const AnswerStart& start, const OpenAiAnswerOptions& options)
      : OpenAiWriter(start, options,
                     {.id_prefix = "cmpl-", .whole = "text_completion", .chunk = "text_completion"}),
        streams_(start.n_choice) {}

 private:
  // Of a choice of a stream.
  struct Stream {
    std::string pending;  // the prompt, which comes with the first of what follows it
    Offsets offsets;
    bool begun = false;  // it had tokens
  };

  static Json logprob_of(const GeneratedToken& token, bool first_of_prompt) {
    return first_of_prompt ? Json(nullptr) : Json(token.logprob);
  }
  Json top_of(const GeneratedToken& token, bool first_of_prompt) const {
    if (first_of_prompt || token.top.empty()) return nullptr;
    Json top = Json::object();
    for (const TokenLogprob& other : token.top) top[text_of(other.token)] = other.logprob;
    return top;
  }

  bool write_choice(size_t index, const AnswerChoice& choice, const BodySink& sink) const override {
    const std::string text = dump_json(choice.content);
    if (!sink(odmoe::format("{{\"text\":{},\"index\":{},\"logprobs\":", text, index))) return false;
    if (!has_logprobs() ? !sink("null") : !write_logprobs(choice, sink)) return false;
    return sink(odmoe::format(",\"finish_reason\":{}}}", dump_json(finish_reason(choice.finish))));
  }

  bool write_logprobs(const AnswerChoice& choice, const BodySink& sink) const {
    const auto list = [&](const char* name, const std::function<std::string(size_t)>& item) {
      return sink(name) && write_json_list(choice.tokens.size(), item, sink);
    };
    const auto first = [&](size_t i) { return i == 0 && choice.begins_with_prompt; };
    Offsets offsets;
    return list("{\"tokens\":", [&](size_t i) { return dump_json(text_of(choice.tokens[i].token)); }) &&
           list(",\"token_logprobs\":",
                [&](size_t i) { return dump_json(logprob_of(choice.tokens[i], first(i))); }) &&
           list(",\"top_logprobs\":",
                [&](size_t i) { return dump_json(top_of(choice.tokens[i], first(i))); }) &&
           list(
               ",\"text_offset\":",
               [&](size_t i) { return std::to_string(offsets.next(shown_bytes(choice.tokens[i].token))); }) &&
           sink("}");
  }

  std::vector<Json> begin_chunks(std::span<const AnswerChoice> choices) override {
    for (size_t i = 0; i < choices.size(); ++i) streams_[i].pending = choices[i].content;
    return {};
  }

  std::vector<Json> chunks_of(const AnswerEvent& event) override {
    Stream& stream = streams_[event.choice];
    Json logprobs = logprobs_of(stream, event);
    std::string text = event.prompt ? "" : std::exchange(stream.pending, "");
    text += event.content;
    if (text.empty() && logprobs.is_null() && !event.finish) return {};
    Json json = chunk();
    json["choices"].push_back(
        {{"text", text},
         {"index", event.choice},
         {"logprobs", std::move(logprobs)},
         {"finish_reason", event.finish ? Json(finish_reason(*event.finish)) : Json(nullptr)}});
    return {std::move(json)};
  }

  // What a chunk says of its tokens.
  Json logprobs_of(Stream& stream, const AnswerEvent& event) const {
    if (!has_logprobs()) return nullptr;
    Json logprobs = {{"tokens", Json::array()},
                     {"token_logprobs", Json::array()},
                     {"top_logprobs", Json::array()},
                     {"text_offset", Json::array()}};
    for (const GeneratedToken& token : event.tokens) {
      const bool first_of_prompt = event.prompt && !std::exchange(stream.begun, true);
      logprobs["tokens"].push_back(text_of(token.token));
      logprobs["token_logprobs"].push_back(logprob_of(token, first_of_prompt));
      logprobs["top_logprobs"].push_back(top_of(token, first_of_prompt));
      logprobs["text_offset"].push_back(stream.offsets.next(shown_bytes(token.token)));
    }
    return logprobs;
  }

  std::vector<Stream> streams_;  // [n_choice]
};

}  // namespace

std::unique_ptr<AnswerWriter> openai_completion_writer(const AnswerStart& start,
                                                       const OpenAiAnswerOptions& options) {
  return std::make_unique<CompletionWriter>(start, options);
}

}  // namespace odmoe::server
