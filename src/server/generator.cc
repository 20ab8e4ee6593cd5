#include "server/generator.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>
#include <utility>

#include "base/mutex.h"
#include "odmoe/format.h"
#include "server/call_grammar.h"
#include "server/choice_sink.h"
#include "server/continuation.h"
#include "server/encode_bounds.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

std::string random_id() {
  static Mutex mutex;
  static std::mt19937_64 random{std::random_device{}()};
  const MutexLock lock(mutex);
  return odmoe::format("{:016x}{:08x}", random(), static_cast<uint32_t>(random()));
}

ApiError prompt_error(const ServedModel& model, const Error& error, const RequestWork& work,
                      const char* param) {
  ApiError refused = not_encoded(error, work, param);
  if (error.kind != ErrorKind::kBudget) return refused;
  refused.message = odmoe::format(
      "the prompt does not fit: {}, and this server's context is {} tokens; start it "
      "with a larger --context or shorten the prompt",
      error.message, model.context);
  refused.code = "context_length_exceeded";
  return refused;
}

ApiResult<std::vector<Token>> checked_prompt(const ServedModel& model, std::vector<Token> prompt,
                                             const char* param) {
  if (prompt.empty()) return bad_request(param, "the prompt is empty: give at least one token of text");
  if (std::cmp_greater(prompt.size(), model.context)) {
    auto error = bad_request(param,
                             "the prompt has {} tokens, and this server's context {}; start it with a larger "
                             "--context or shorten the prompt",
                             prompt.size(), model.context);
    error.error().code = "context_length_exceeded";
    return error;
  }
  return prompt;
}

ApiResult<Generation> generation_of(const CommonRequest& request, const std::vector<Token>& prompt,
                                    int32_t choice, const Client& client, RequestWork& work) {
  uint64_t bytes = kGenerationBytes + prompt.size() * sizeof(Token) + request.logit_bias.size() * 8;
  for (const std::string& stop : request.stop) bytes += 8 * stop.size();
  ODMOE_RETURN_IF_ERROR(work.take(bytes));
  Generation generation{.owner = client.owner,
                        .prompt = prompt,
                        .sampling = request.sampling,
                        .max_tokens = request.max_tokens,
                        .logit_bias = request.logit_bias,
                        .top_logprobs = request.top_logprobs,
                        .ignore_eos = request.ignore_eos};
  // OpenAI's penalties are of what was written; the repetition penalty of what was read too.
  generation.penalize_prompt =
      request.sampling.presence_penalty == 0 && request.sampling.frequency_penalty == 0;
  generation.sampling.seed =
      request.seed ? *request.seed + static_cast<uint64_t>(choice) : std::random_device{}();
  generation.deadline = work.deadline();
  return generation;
}

// What putting a conversation into the model's template takes.
uint64_t rendering_bytes(const Conversation& conversation) {
  // As the text grows it is there three times over.  What is JSON is read on the way, one after the other,
  // and the shortest values take most: "[]," 96 bytes.
  constexpr uint64_t kTextBytesPerByte = 3, kJsonBytesPerByte = 32;
  uint64_t text = 0, longest_json = 0;
  const auto add_json = [&](const std::string& json) {
    text += 2 * json.size();
    longest_json = std::max<uint64_t>(longest_json, json.size());
  };
  for (const std::string& tool : conversation.tools) add_json(tool);
  for (const ChatTurn& turn : conversation.turns) {
    text += turn.content.size() + (turn.reasoning ? turn.reasoning->size() : 0) + turn.name.size();
    for (const ChatToolCall& call : turn.tool_calls) add_json(call.arguments);
  }
  return text * kTextBytesPerByte + longest_json * kJsonBytesPerByte;
}

using Generations = std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>>;

ApiStatus submit(Call& call, Generations generations) {
  const Generation& first = generations.front().first;
  if (!first.logit_bias.empty() && first.max_tokens != 0) {
    // The choices share bias and grammar.  Refused before a prompt is read, and before a stream begins; one
    // after the other, for each takes a matcher's memory.
    const MutexLock lock(call.model->checking);
    const Engine& engine = *call.model->engine;
    TokenChooser chooser = chooser_of({.sampling = {.temperature = 0},
                                       .logit_bias = first.logit_bias,
                                       .ignore_eos = first.ignore_eos,
                                       .grammar = first.grammar},
                                      end_tokens(engine), engine.model().n_vocab);
    if (const auto possible = chooser.check(); !possible.has_value()) {
      return std::unexpected(failure(ending_of(possible.error()), possible.error().error));
    }
  }
  call.deadline = first.deadline;
  auto tickets = call.model->scheduler->submit_all(std::move(generations));
  if (tickets.has_value()) {
    call.tickets = std::move(*tickets);
    return {};
  }
  const Refusal& refusal = tickets.error();
  if (refusal.draining) {
    return std::unexpected(ApiError{.status = 503,
                                    .fault = Fault::kServer,
                                    .message = "the server is shutting down",
                                    .code = "shutting_down",
                                    .retry_after_s = 10});
  }
  return std::unexpected(ApiError{.status = 429,
                                  .fault = Fault::kRate,
                                  .message = "too many requests wait already: try again later",
                                  .code = "queue_full",
                                  .retry_after_s = refusal.retry_after_s});
}

}  // namespace

// What a request comes to.
struct Generator::Plan {
  AnswerStart start;
  Generations generations;
  AnswerOptions answer;
};

Generator::Generator(const ServerOptions& options, std::shared_ptr<RequestMemory> memory)
    : options_(&options), memory_(std::move(memory)), vision_(options.vision) {}

ApiResult<std::shared_ptr<Call>> Generator::start(const std::shared_ptr<ServedModel>& model,
                                                  ParsedRequest parsed, const Client& client,
                                                  RequestWork& work) {
  const uint64_t of_body = work.bytes();
  auto call = std::make_shared<Call>(model, memory_);
  Plan plan{.start = {.engine = model->engine,
                      .id = random_id(),
                      .model = options_->model_id,
                      .created = static_cast<int64_t>(std::time(nullptr))},
            .generations = {},
            .answer = {.memory = RequestMemory::Share(memory_)}};
  ODMOE_RETURN_IF_ERROR(std::visit(
      [&](auto& request) {
        plan.answer.stream = request.stream;
        return prepare(request, client, work, *call, plan);
      },
      parsed.request));
  plan.start.n_choice = plan.generations.size();
  call->answer = std::make_unique<Answer>(std::move(plan.answer));
  call->writer = parsed.writer(plan.start);
  parsed = {};
  work.give_back_to(work.bytes() - of_body);
  call->memory = work.keep();
  ODMOE_RETURN_IF_ERROR(submit(*call, std::move(plan.generations)));
  return call;
}

// A prompt after the other, each with its choices.
ApiStatus Generator::prepare(CompletionRequest& request, const Client& client, RequestWork& work, Call& call,
                             Plan& plan) {
  ServedModel& model = *call.model;
  const Engine& engine = *model.engine;
  ODMOE_ASSIGN_OR_RETURN(const Grammar grammar,
                         compiled(work, asks_for_grammar(request),
                                  [&](grammar::Stop stop) { return grammar_of(request, std::move(stop)); }));
  for (size_t p = 0; p < request.prompts.size(); ++p) {
    auto& prompt = request.prompts[p];
    const auto* said = std::get_if<std::string>(&prompt);
    std::vector<Token> tokens;
    if (said != nullptr) {
      const TokenBounds bounds = token_bounds(work, static_cast<size_t>(model.context), said->size());
      const uint64_t before = work.bytes();
      ODMOE_RETURN_IF_ERROR(work.take(bounds.bytes));
      auto encoded = engine.encode_within(*said, true, true, bounds.limits);
      if (!encoded.has_value()) return std::unexpected(prompt_error(model, encoded.error(), work, "prompt"));
      tokens = std::move(*encoded);
      work.give_back_to(before);
    } else {
      tokens = std::move(std::get<std::vector<Token>>(prompt));
    }
    ODMOE_ASSIGN_OR_RETURN(tokens, checked_prompt(model, std::move(tokens), "prompt"));
    std::string echo;
    if (request.echo) {
      echo = said != nullptr ? *said : engine.decode(tokens);
      // Each choice has it, and its answer as text and JSON.
      ODMOE_RETURN_IF_ERROR(work.take(echo.size() * static_cast<size_t>(1 + 5 * request.n)));
    }
    for (int32_t i = 0; i < request.n; ++i) {
      ODMOE_ASSIGN_OR_RETURN(Generation generation, generation_of(request, tokens, i, client, work));
      generation.prompt_logprobs = request.echo && request.top_logprobs >= 0;
      if (grammar) {
        generation.grammar = std::make_shared<grammar::TokenMasks>(
            grammar::TokenMasks{.grammar = grammar, .vocabulary = model.words()});
      }
      auto sink = std::make_shared<ChoiceSink>(engine, call.channel,
                                               ChoiceOptions{.choice = plan.generations.size(),
                                                             .stop = request.stop,
                                                             .stop_tokens = request.stop_tokens,
                                                             .logprobs = request.top_logprobs >= 0,
                                                             .echo = generation.prompt_logprobs});
      plan.generations.emplace_back(std::move(generation), std::move(sink));
      plan.answer.prompt_of_choice.push_back(p);
      plan.answer.begun.push_back({.content = echo});
    }
  }
  return {};
}

ApiStatus Generator::prepare(ChatRequest& request, const Client& client, RequestWork& work, Call& call,
                             Plan& plan) {
  ServedModel& model = *call.model;
  const Engine& engine = *model.engine;
  if (!model.syntax.has_value()) return bad_request("messages", "{}", model.syntax.error().message);
  const ToolCallSyntax syntax = *model.syntax;
  ODMOE_ASSIGN_OR_RETURN(const Grammar grammar,
                         compiled(work, asks_for_grammar(request), [&](grammar::Stop stop) {
                           return grammar_of(engine, request, syntax, std::move(stop));
                         }));
  ODMOE_ASSIGN_OR_RETURN(const std::string begun, begun_text(request, grammar));
  ODMOE_RETURN_IF_ERROR(describe_images(client, request, work));
  const bool may_call = !request.tools.empty() && request.tool_choice.kind != ToolChoice::Kind::kNone;
  if (!may_call) request.conversation.tools.clear();
  // What a grammar is about is the answer: thoughts do not come before it unless they are asked for, or the
  // model has no way without.
  if (grammar && !request.conversation.thinking) request.conversation.thinking = false;
  const uint64_t before = work.bytes();
  const uint64_t rendering = rendering_bytes(request.conversation);
  const TokenBounds bounds = token_bounds(work, static_cast<size_t>(model.context), rendering / 3);
  ODMOE_RETURN_IF_ERROR(work.take(rendering + bounds.bytes));
  auto encoded = engine.encode_chat(request.conversation, options_->chat_template, bounds.limits);
  if (!encoded.has_value()) return std::unexpected(prompt_error(model, encoded.error(), work, "messages"));
  work.give_back_to(before);
  ODMOE_ASSIGN_OR_RETURN(const std::vector<Token> tokens,
                         checked_prompt(model, std::move(*encoded), "messages"));

  const AssistantText::Start start = start_of(engine, request.conversation, tokens);
  const bool in_thought = start == AssistantText::Start::kThought;
  const std::string thought_end = "</think>";
  const std::vector<Token> thought_end_tokens = engine.encode(thought_end, false, true);
  for (int32_t i = 0; i < request.n; ++i) {
    ODMOE_ASSIGN_OR_RETURN(Generation generation, generation_of(request, tokens, i, client, work));
    if (grammar) {
      generation.grammar = std::make_shared<grammar::TokenMasks>(
          grammar::TokenMasks{.grammar = grammar, .vocabulary = model.words(), .begun = begun});
      if (in_thought) {
        generation.grammar_after = thought_end;
        if (thought_end_tokens.size() == 1) generation.grammar_after_token = thought_end_tokens[0];
      }
    }
    auto sink = std::make_shared<ChoiceSink>(engine, call.channel,
                                             ChoiceOptions{.choice = static_cast<size_t>(i),
                                                           .stop = request.stop,
                                                           .stop_tokens = request.stop_tokens,
                                                           .logprobs = request.top_logprobs >= 0,
                                                           .show_markup = true});
    plan.generations.emplace_back(std::move(generation), std::move(sink));
    AnswerChoice& choice = plan.answer.begun.emplace_back();
    if (request.echo) (in_thought ? choice.reasoning : choice.content) = begun;
  }
  plan.answer.prompt_of_choice.assign(plan.generations.size(), 0);
  plan.answer.chat = ChatAnswerOptions{.syntax = may_call ? std::optional(syntax) : std::nullopt,
                                       .start = start,
                                       .id = plan.start.id,
                                       .one_call = may_call && !request.parallel_tool_calls};
  return {};
}

// Puts the descriptions where the images were.
ApiStatus Generator::describe_images(const Client& client, ChatRequest& chat, RequestWork& work) {
  if (chat.images.empty()) return {};
  std::vector<std::string> urls;
  uint64_t bytes = 0;
  for (Image& image : chat.images) {
    bytes += image.url.size();
    urls.push_back(std::move(image.url));
  }
  // Each is put into a request of its own.
  const uint64_t before = work.bytes();
  ODMOE_RETURN_IF_ERROR(work.take(3 * bytes));
  ODMOE_ASSIGN_OR_RETURN(const auto texts, vision_.describe(urls, client.gone, client.owner));
  work.give_back_to(before);
  for (size_t i = chat.images.size(); i-- > 0;) {  // from the last, so that places stay what they are
    const Image& image = chat.images[i];
    chat.conversation.turns[image.turn].content.insert(image.at,
                                                       odmoe::format("[Image {}: {}]\n", i + 1, texts[i]));
  }
  return {};
}

// The grammar that a request wants, if it does.
ApiResult<Generator::Grammar> Generator::compiled(
    RequestWork& work, bool wanted, const std::function<ApiResult<Grammar>(grammar::Stop)>& compile) {
  if (!wanted) return nullptr;
  // One at a time: what it takes is in the memory plan once.
  while (!compiling_.try_lock_for(kLiveness)) ODMOE_RETURN_IF_ERROR(work.goes_on());
  const std::lock_guard held(compiling_, std::adopt_lock);
  auto grammar = compile([&work] { return !work.hurries_on(); });
  ODMOE_RETURN_IF_ERROR(work.goes_on());
  if (grammar.has_value()) ODMOE_RETURN_IF_ERROR(work.take((*grammar)->bytes()));
  return grammar;
}

}  // namespace odmoe::server
