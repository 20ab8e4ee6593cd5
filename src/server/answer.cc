#include "server/answer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "odmoe/format.h"

namespace odmoe::server {
namespace {

std::optional<ApiError> error_of(const ChannelEvent& event) {
  const GenerationEnd& end = *event.end;
  if (event.too_slow) {
    return ApiError{.status = 408,
                    .fault = Fault::kServer,
                    .message = "the client did not read what was generated",
                    .code = "client_too_slow"};
  }
  switch (end.ending) {
    case Ending::kError:
    case Ending::kForbidden:
      return failure(end.ending, end.error);
    case Ending::kDeadline:
      return ApiError{.status = 504,
                      .fault = Fault::kServer,
                      .message = "the request took longer than this server allows (--timeout)",
                      .code = "timeout"};
    case Ending::kCancelled:
      return ApiError{.status = 503,
                      .fault = Fault::kServer,
                      .message = "the server is shutting down",
                      .code = "shutting_down",
                      .retry_after_s = 1};
    default:
      return std::nullopt;
  }
}

// What an event takes of the memory of its answer: all of it where that is kept until it is whole; of a
// stream the text, which may be held back until a call in it ends.
size_t kept_bytes(const ChannelEvent& event, bool kept) {
  if (!kept) return 2 * event.text.size();
  // The text, where it is put together with twice the room, and once more each as a value and as JSON.
  size_t bytes = event.text.size() * 5;
  // A list that grows has up to three times the room.
  for (const GeneratedToken& token : event.tokens) {
    bytes += 3 * sizeof(token) + token.top.size() * sizeof(TokenLogprob) + 16;
  }
  return bytes;
}

AnswerFinish finish_of(const ChannelEvent& event) {
  const Ending ending = event.end->ending;
  const bool cut = ending == Ending::kLength || ending == Ending::kContextFull;
  return cut && event.stop_string.empty() ? AnswerFinish::kLength : AnswerFinish::kStop;
}

}  // namespace

ApiError failure(Ending ending, const Error& error) {
  ApiError result = from_engine(error);
  if (ending == Ending::kForbidden) result.param = "logit_bias";
  return result;
}

Answer::Answer(AnswerOptions options)
    : stream_(options.stream),
      kept_(options.kept),
      one_call_(options.chat && options.chat->one_call),
      prompt_of_choice_(std::move(options.prompt_of_choice)),
      choices_(std::move(options.begun)),
      n_call_(choices_.size()),
      n_wanted_(choices_.size()),
      n_untold_(choices_.size()),
      memory_(std::move(options.memory)) {
  for (size_t i = 0; options.chat && i < choices_.size(); ++i) {
    texts_.push_back(make_output_reader({.format = options.chat->format,
                                         .start = options.chat->start,
                                         .calls = options.chat->calls,
                                         .tools = options.chat->tools,
                                         .id_prefix = odmoe::format("call_{}_{}_", options.chat->id, i)}));
  }
}

std::optional<AnswerEvent> Answer::take(const ChannelEvent& event) {
  if (!enough(event.choice)) n_wanted_[event.choice] += event.n_token;
  if (event.end) count(event);
  if (!error_ && !memory_.try_grow(kept_bytes(event, kept_))) {
    error_ = ApiError{.status = 503,
                      .fault = Fault::kServer,
                      .message =
                          "the answer takes more memory than is left for answers: ask for fewer choices, no "
                          "logprobs or a stream, or try again later",
                      .code = "request_memory",
                      .retry_after_s = 1};
  }
  if (error_) return std::nullopt;
  AnswerEvent said = say(event);
  count_thought(event, said);
  if (stream_) return said;
  append(choices_[event.choice], std::move(said));
  return std::nullopt;
}

void Answer::count(const ChannelEvent& event) {
  ++n_ended_;
  const bool wanted = enough(event.choice) && event.end->ending == Ending::kCancelled;
  if (!error_ && !wanted) error_ = error_of(event);
  const size_t prompt = prompt_of_choice_[event.choice];
  if (counted_.size() <= prompt) counted_.resize(prompt + 1);
  if (!counted_[prompt]) {
    usage_.prompt += event.end->prompt_tokens;
    usage_.reused += event.end->reused_tokens;
  }
  counted_[prompt] = true;
  // How many more there were until it was ended is a matter of chance.
  usage_.generated += enough(event.choice) ? n_wanted_[event.choice] : event.end->generated_tokens;
  usage_.queue_ms = std::max(usage_.queue_ms, event.end->queue_ms);
  usage_.ttft_ms = std::max(usage_.ttft_ms, event.end->ttft_ms);
  usage_.decode_ms = std::max(usage_.decode_ms, event.end->decode_ms);
}

AnswerEvent Answer::say(const ChannelEvent& event) {
  AnswerEvent said{.choice = event.choice, .prompt = event.prompt};
  size_t& n_call = n_call_[event.choice];
  const bool said_enough = enough(event.choice);
  if (!said_enough) said.tokens = event.tokens;
  if (texts_.empty()) {
    said.content = event.text;
  } else if (!said_enough) {  // what comes after the one call that was wanted is not told
    OutputReader& text = *texts_[event.choice];
    OutputDelta delta = text.push(event.text);
    if (event.end) {
      OutputDelta rest = text.finish();
      delta.reasoning += rest.reasoning;
      delta.content += rest.content;
      std::ranges::move(rest.calls, std::back_inserter(delta.calls));
    }
    if (one_call_ && delta.calls.size() > 1) delta.calls.resize(1);
    said.reasoning = std::move(delta.reasoning);
    said.content = std::move(delta.content);
    said.calls = std::move(delta.calls);
    n_call += said.calls.size();
  }
  if (event.end) {
    said.finish = said_enough ? AnswerFinish::kStop : finish_of(event);
    said.stop_string = event.stop_string;
    said.context_full = said.finish == AnswerFinish::kLength && event.end->ending == Ending::kContextFull;
    // What was cut off may have been one call more.
    if (n_call > 0 && said.finish != AnswerFinish::kLength) said.finish = AnswerFinish::kCalls;
  }
  return said;
}

// Tokens of which nothing is said (yet), such as marks, are of what is said next.
void Answer::count_thought(const ChannelEvent& event, const AnswerEvent& said) {
  int32_t& untold = n_untold_[event.choice];
  untold += event.n_token;
  if (said.reasoning.empty() && said.content.empty() && said.calls.empty()) return;
  if (said.content.empty() && said.calls.empty()) usage_.thought += untold;
  untold = 0;
}

void append(AnswerChoice& choice, AnswerEvent event) {
  using Kind = AnswerPart::Kind;
  const auto add_part = [&](Kind kind, size_t end) {
    if (choice.order.empty() || choice.order.back().kind != kind) choice.order.push_back({.kind = kind});
    choice.order.back().end = end;
    choice.order.back().tokens_end = choice.tokens.size();
  };
  choice.begins_with_prompt = choice.begins_with_prompt || (event.prompt && choice.tokens.empty());
  const auto add_tokens = [&] {
    std::ranges::move(event.tokens, std::back_inserter(choice.tokens));
    event.tokens.clear();
  };
  if (event.content.empty()) add_tokens();
  if (!event.reasoning.empty()) {
    choice.reasoning += event.reasoning;
    add_part(Kind::kReasoning, choice.reasoning.size());
  }
  add_tokens();
  if (!event.content.empty()) {
    choice.content += event.content;
    add_part(Kind::kContent, choice.content.size());
  }
  if (!event.calls.empty()) {
    std::ranges::move(event.calls, std::back_inserter(choice.calls));
    add_part(Kind::kCalls, choice.calls.size());
  }
  if (!event.finish) return;
  choice.finish = *event.finish;
  choice.stop_string = std::move(event.stop_string);
  choice.context_full = event.context_full;
}

}  // namespace odmoe::server
