#include "server/answer.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "model/tokenizer/tokenizer.h"

namespace odmoe::server {
namespace {

std::optional<ApiError> error_of(const ChannelEvent& event) {
  const GenerationEnd& end = *event.end;
  if (event.too_slow) {
    return ApiError{.status = 408,
                    .type = "server_error",
                    .message = "the client did not read what was generated",
                    .code = "client_too_slow"};
  }
  switch (end.ending) {
    case Ending::kError:
    case Ending::kForbidden:
      return failure(end.ending, end.error);
    case Ending::kDeadline:
      return ApiError{.status = 504,
                      .type = "server_error",
                      .message = "the request took longer than this server allows (--timeout)",
                      .code = "timeout"};
    case Ending::kCancelled:
      return ApiError{.status = 503,
                      .type = "server_error",
                      .message = "the server is shutting down",
                      .code = "shutting_down",
                      .retry_after_s = 1};
    default:
      return std::nullopt;
  }
}

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

// What an event takes of the memory of its answer: all of it where that is kept until it is whole; of a
// stream the text, which may be held back until a call in it ends.
size_t kept_bytes(const ChannelEvent& event, bool stream) {
  if (stream) return 2 * event.text.size();
  // The text, where it is put together with twice the room, and once more each as a value and as JSON.
  size_t bytes = event.text.size() * 5;
  // A list that grows has up to three times the room.
  for (const GeneratedToken& token : event.tokens) {
    bytes += 3 * sizeof(token) + token.top.size() * sizeof(TokenLogprob) + 16;
  }
  return bytes;
}

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(const Engine& engine, AnswerOptions options, const ChatAnswerOptions& chat)
      : Answer(engine, std::move(options)), chat_(chat) {
    for (size_t i = 0; i < options_.n_choice; ++i) {
      choices_.push_back({.text = AssistantText(chat.syntax, chat.start,
                                                odmoe::format("call_{}_{}_", options_.id.substr(9), i))});
      const bool thinks = chat.start == AssistantText::Start::kThought;
      (thinks ? choices_.back().reasoning : choices_.back().content) = chat.echo;
    }
    prompt_of_choice_.assign(options_.n_choice, 0);
  }

  std::vector<Json> begin() override {
    std::vector<Json> chunks;
    for (size_t i = 0; options_.stream && i < options_.n_choice; ++i) {
      const Choice& choice = choices_[i];
      Json delta = {{"role", "assistant"}, {"content", choice.content}, {"refusal", nullptr}};
      if (!choice.reasoning.empty()) delta["reasoning_content"] = choice.reasoning;
      chunks.push_back(chunk(i, std::move(delta)));
    }
    return chunks;
  }

  bool enough(size_t choice) const override { return chat_.one_call && choices_[choice].n_call > 0; }

  bool write_whole(const PieceSink& sink) const override { return write_envelope("chat.completion", sink); }

 private:
  struct Choice {
    AssistantText text;
    std::string content, reasoning;
    Json calls = Json::array();
    int n_call = 0;
    std::vector<GeneratedToken> tokens;  // with logprobs
    const char* finish = nullptr;
  };

  bool write_choice(size_t index, const PieceSink& sink) const override {
    const Choice& choice = choices_[index];
    Json message = {{"role", "assistant"}, {"content", choice.content}, {"refusal", nullptr}};
    if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
    if (!choice.calls.empty()) {
      if (choice.content.empty()) message["content"] = nullptr;
      message["tool_calls"] = choice.calls;
    }
    if (!sink(odmoe::format("{{\"index\":{},\"message\":{},\"logprobs\":", index, dump_json(message))))
      return false;
    if (options_.top_logprobs < 0) {
      if (!sink("null")) return false;
    } else {
      const auto text = [&](size_t i) { return dump_json(describe(choice.tokens[i])); };
      if (!sink("{\"content\":") || !write_json_list(choice.tokens.size(), text, sink)) return false;
      if (!sink(",\"refusal\":null}")) return false;
    }
    return sink(odmoe::format(",\"finish_reason\":{}}}", dump_json(choice.finish)));
  }

  Json logprobs(const Json& content) const {
    if (options_.top_logprobs < 0) return nullptr;
    return {{"content", content}, {"refusal", nullptr}};
  }

  Json chunk(size_t index, Json delta, Json tokens = nullptr, const char* finish = nullptr) const {
    Json json = envelope("chat.completion.chunk");
    json["choices"] = {{{"index", index},
                        {"delta", std::move(delta)},
                        {"logprobs", tokens.is_null() ? Json(nullptr) : logprobs(tokens)},
                        {"finish_reason", finish == nullptr ? Json(nullptr) : Json(finish)}}};
    if (options_.include_usage) json["usage"] = nullptr;
    return json;
  }

  Json describe(const GeneratedToken& token) const {
    const auto one = [&](Token id, float logprob) {
      return Json{{"token", text_of(id)}, {"logprob", logprob}, {"bytes", bytes_of(id)}};
    };
    Json json = one(token.token, token.logprob);
    json["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.top)
      json["top_logprobs"].push_back(one(other.token, other.logprob));
    return json;
  }

  void add(const ChannelEvent& event, std::vector<Json>& chunks) override {
    Choice& choice = choices_[event.choice];
    Json tokens = Json::array();
    if (options_.stream) {
      for (const GeneratedToken& token : event.tokens) tokens.push_back(describe(token));
    }
    const bool silent = enough(event.choice);  // what comes after the one call that was wanted
    AssistantDelta delta = silent ? AssistantDelta() : choice.text.push(event.text);
    if (event.end && !silent) {
      AssistantDelta rest = choice.text.finish();
      delta.reasoning += rest.reasoning;
      delta.content += rest.content;
      std::ranges::move(rest.calls, std::back_inserter(delta.calls));
    }
    if (!options_.stream) {
      choice.content += delta.content;
      choice.reasoning += delta.reasoning;
      std::ranges::copy(event.tokens, std::back_inserter(choice.tokens));
    }
    if (!delta.reasoning.empty() && options_.stream) {
      chunks.push_back(chunk(event.choice, {{"reasoning_content", delta.reasoning}}));
    }
    if ((!delta.content.empty() || !tokens.empty()) && options_.stream) {
      chunks.push_back(
          chunk(event.choice, {{"content", delta.content}}, tokens.empty() ? Json(nullptr) : tokens));
    }
    for (const ChatToolCall& call : delta.calls) {
      if (chat_.one_call && choice.n_call > 0) break;
      add_call(event.choice, call, chunks);
    }
    if (!event.end) return;
    choice.finish = choice.n_call > 0 ? "tool_calls" : finish_reason(event);
    if (options_.stream) chunks.push_back(chunk(event.choice, Json::object(), nullptr, choice.finish));
  }

  void add_call(size_t index, const ChatToolCall& call, std::vector<Json>& chunks) {
    Choice& choice = choices_[index];
    const int n = choice.n_call++;
    if (!options_.stream) {
      choice.calls.push_back({{"id", call.id},
                              {"type", "function"},
                              {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
      return;
    }
    const auto calls = [](Json one) { return Json{{"tool_calls", Json::array({std::move(one)})}}; };
    chunks.push_back(chunk(index, calls({{"index", n},
                                         {"id", call.id},
                                         {"type", "function"},
                                         {"function", {{"name", call.name}, {"arguments", ""}}}})));
    chunks.push_back(chunk(index, calls({{"index", n}, {"function", {{"arguments", call.arguments}}}})));
  }

  ChatAnswerOptions chat_;
  std::vector<Choice> choices_;
};

class CompletionAnswer final : public Answer {
 public:
  CompletionAnswer(const Engine& engine, AnswerOptions options, int32_t n,
                   std::optional<std::vector<std::string>> echo)
      : Answer(engine, std::move(options)), choices_(options_.n_choice) {
    for (size_t i = 0; i < choices_.size(); ++i) {
      const size_t prompt = i / static_cast<size_t>(n);
      prompt_of_choice_.push_back(prompt);
      if (echo) choices_[i].pending = (*echo)[prompt];
      choices_[i].echoed = choices_[i].pending;
    }
  }

  bool write_whole(const PieceSink& sink) const override { return write_envelope("text_completion", sink); }

 private:
  struct Choice {
    std::string text, echoed, pending;
    std::vector<GeneratedToken> tokens;  // with logprobs
    bool begins_with_prompt = false;     // the first of them is the prompt's first
    size_t offset = 0;                   // in characters, of the tokens so far
    const char* finish = nullptr;
  };

  Json logprob_of(const GeneratedToken& token, bool first_of_prompt) const {
    return first_of_prompt ? Json(nullptr) : Json(token.logprob);
  }
  Json top_of(const GeneratedToken& token, bool first_of_prompt) const {
    if (first_of_prompt || token.top.empty()) return nullptr;
    Json top = Json::object();
    for (const TokenLogprob& other : token.top) top[text_of(other.token)] = other.logprob;
    return top;
  }

  bool write_choice(size_t index, const PieceSink& sink) const override {
    const Choice& choice = choices_[index];
    const std::string text = dump_json(choice.echoed + choice.text);
    if (!sink(odmoe::format("{{\"text\":{},\"index\":{},\"logprobs\":", text, index))) return false;
    if (options_.top_logprobs < 0 ? !sink("null") : !write_logprobs(choice, sink)) return false;
    return sink(odmoe::format(",\"finish_reason\":{}}}", dump_json(choice.finish)));
  }

  bool write_logprobs(const Choice& choice, const PieceSink& sink) const {
    const auto list = [&](const char* name, const std::function<std::string(size_t)>& item) {
      return sink(name) && write_json_list(choice.tokens.size(), item, sink);
    };
    const auto first = [&](size_t i) { return i == 0 && choice.begins_with_prompt; };
    size_t offset = 0;
    return list("{\"tokens\":", [&](size_t i) { return dump_json(text_of(choice.tokens[i].token)); }) &&
           list(",\"token_logprobs\":",
                [&](size_t i) { return dump_json(logprob_of(choice.tokens[i], first(i))); }) &&
           list(",\"top_logprobs\":",
                [&](size_t i) { return dump_json(top_of(choice.tokens[i], first(i))); }) &&
           list(",\"text_offset\":",
                [&](size_t i) {
                  const size_t here = offset;
                  offset += characters(text_of(choice.tokens[i].token));
                  return std::to_string(here);
                }) &&
           sink("}");
  }

  // What a chunk of a stream says of its tokens.
  void describe(Choice& choice, const ChannelEvent& event, Json& logprobs) const {
    if (options_.top_logprobs < 0) return;
    if (logprobs.is_null()) {
      logprobs = {{"tokens", Json::array()},
                  {"token_logprobs", Json::array()},
                  {"top_logprobs", Json::array()},
                  {"text_offset", Json::array()}};
    }
    for (const GeneratedToken& token : event.tokens) {
      const bool first_of_prompt = event.prompt && choice.offset == 0 && logprobs["tokens"].empty();
      const std::string text = text_of(token.token);
      logprobs["tokens"].push_back(text);
      logprobs["token_logprobs"].push_back(logprob_of(token, first_of_prompt));
      logprobs["top_logprobs"].push_back(top_of(token, first_of_prompt));
      logprobs["text_offset"].push_back(choice.offset);
      choice.offset += characters(text);
    }
  }

  void add(const ChannelEvent& event, std::vector<Json>& chunks) override {
    Choice& choice = choices_[event.choice];
    if (event.end) choice.finish = finish_reason(event);
    if (!options_.stream) {
      choice.text += event.text;
      choice.begins_with_prompt = choice.begins_with_prompt || (event.prompt && choice.tokens.empty());
      std::ranges::copy(event.tokens, std::back_inserter(choice.tokens));
      return;
    }
    Json logprobs;
    describe(choice, event, logprobs);
    std::string text = event.prompt ? "" : std::exchange(choice.pending, "");
    text += event.text;
    if (text.empty() && logprobs.is_null() && !event.end) return;
    Json json = envelope("text_completion");
    json["choices"] = {{{"text", text},
                        {"index", event.choice},
                        {"logprobs", std::move(logprobs)},
                        {"finish_reason", choice.finish == nullptr ? Json(nullptr) : Json(choice.finish)}}};
    if (options_.include_usage) json["usage"] = nullptr;
    chunks.push_back(std::move(json));
  }

  std::vector<Choice> choices_;
};

}  // namespace

ApiError failure(Ending ending, const Error& error) {
  ApiError result = from_engine(error);
  if (ending == Ending::kForbidden) result.param = "logit_bias";
  return result;
}

Answer::Answer(const Engine& engine, AnswerOptions options)
    : engine_(&engine), options_(std::move(options)) {}

std::vector<Json> Answer::take(const ChannelEvent& event) {
  std::vector<Json> chunks;
  if (event.end) {
    ++n_ended_;
    const bool wanted = enough(event.choice) && event.end->ending == Ending::kCancelled;
    if (!error_ && !wanted) error_ = error_of(event);
    const size_t prompt = prompt_of_choice_[event.choice];
    if (counted_.size() <= prompt) counted_.resize(prompt + 1);
    if (!counted_[prompt]) {
      prompt_tokens_ += event.end->prompt_tokens;
      reused_tokens_ += event.end->reused_tokens;
    }
    counted_[prompt] = true;
    generated_tokens_ += event.end->generated_tokens;
  }
  if (!error_ && !options_.memory.try_grow(kept_bytes(event, options_.stream))) {
    error_ = ApiError{.status = 503,
                      .type = "server_error",
                      .message =
                          "the answer takes more memory than is left for answers: ask for fewer choices, no "
                          "logprobs or a stream, or try again later",
                      .code = "request_memory",
                      .retry_after_s = 1};
  }
  if (!error_) add(event, chunks);
  return chunks;
}

bool Answer::write_envelope(const char* object, const PieceSink& sink) const {
  std::string head = dump_json(envelope(object));
  head.pop_back();  // the object goes on
  if (!sink(head + ",\"choices\":[")) return false;
  for (size_t i = 0; i < options_.n_choice; ++i) {
    if ((i > 0 && !sink(",")) || !write_choice(i, sink)) return false;
  }
  return sink(odmoe::format("],\"usage\":{}}}\n", dump_json(usage())));
}

Json Answer::envelope(const char* object) const {
  return {{"id", options_.id},
          {"object", object},
          {"created", options_.created},
          {"model", options_.model},
          {"system_fingerprint", nullptr}};
}

Json Answer::usage() const {
  return {{"prompt_tokens", prompt_tokens_},
          {"completion_tokens", generated_tokens_},
          {"total_tokens", prompt_tokens_ + generated_tokens_},
          {"prompt_tokens_details", {{"cached_tokens", reused_tokens_}}}};
}

std::optional<Json> Answer::usage_chunk() const {
  if (!options_.include_usage) return std::nullopt;
  Json json = envelope(options_.id.starts_with("chatcmpl") ? "chat.completion.chunk" : "text_completion");
  json["choices"] = Json::array();
  json["usage"] = usage();
  return json;
}

std::string Answer::text_of(Token token) const {
  StreamDecoder decoder;
  std::string text = decoder.push_bytes(engine_->token_bytes(token, /*special=*/true));
  return text + decoder.finish();
}

Json Answer::bytes_of(Token token) const {
  Json bytes = Json::array();
  for (const char c : engine_->token_bytes(token, /*special=*/true)) bytes.push_back(static_cast<uint8_t>(c));
  return bytes;
}

const char* Answer::finish_reason(const ChannelEvent& event) {
  const Ending ending = event.end->ending;
  const bool cut = ending == Ending::kLength || ending == Ending::kContextFull;
  return cut && !event.stop_string ? "length" : "stop";
}

std::unique_ptr<Answer> make_chat_answer(const Engine& engine, AnswerOptions options,
                                         const ChatAnswerOptions& chat) {
  return std::make_unique<ChatAnswer>(engine, std::move(options), chat);
}

std::unique_ptr<Answer> make_completion_answer(const Engine& engine, AnswerOptions options, int32_t n,
                                               std::optional<std::vector<std::string>> echo) {
  return std::make_unique<CompletionAnswer>(engine, std::move(options), n, std::move(echo));
}

}  // namespace odmoe::server
