#include "server/generator.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <optional>
#include <random>
#include <utility>

#include "base/mutex.h"
#include "base/ordered_json.h"
#include "odmoe/format.h"
#include "server/choice_sink.h"
#include "server/continuation.h"
#include "server/encode_bounds.h"
#include "server/generation_keeper.h"
#include "server/limits.h"
#include "server/output/output_grammar.h"
#include "server/rendering_needs.h"

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
  std::optional<uint64_t> seed = request.seed;
  if (!seed && client.mark) seed = client.mark->seed;
  generation.sampling.seed = seed ? *seed + static_cast<uint64_t>(choice) : std::random_device{}();
  generation.deadline = work.deadline();
  generation.patient = client.patient;
  return generation;
}

// What a value takes in memory, at most.
uint64_t memory_of(const Json& json) {
  uint64_t bytes = kJsonValueBytes;
  if (json.is_string()) bytes += json.get_ref<const std::string&>().capacity();
  if (!json.is_structured()) return bytes;
  bytes += kJsonContainerBytes;
  for (const auto& [key, value] : json.items()) {
    bytes += memory_of(value) + (json.is_object() ? kJsonKeyBytes + key.size() : 0);
  }
  return bytes;
}

// What the answer's reader needs of the tools: their schemas where arguments are text.
ApiResult<std::shared_ptr<const Tools>> kept_tools(const OutputFormat& format, Tools tools,
                                                   RequestWork& work) {
  const bool typed = format.calls && format.calls->form == CallSyntax::Form::kParameters;
  uint64_t bytes = 0;
  for (Tool& tool : tools) {
    if (!typed) tool.parameters = nullptr;
    bytes += sizeof(tool) + tool.name.size() + memory_of(tool.parameters);
  }
  ODMOE_RETURN_IF_ERROR(work.take(bytes));
  return std::make_shared<const Tools>(std::move(tools));
}

// How long the thought of the answer may be; null: any length.
std::shared_ptr<const ThoughtLimit> thought_limit(const Engine& engine, const OutputFormat& format,
                                                  const ChatRequest& request, const AnswerPlace& place) {
  const bool begun = place.start == OutputStart::kThought;
  const bool none = place.start == OutputStart::kContent || place.thought_ended;
  if (request.thought_tokens < 0 || none || format.thought_close.empty() || format.thought_open.empty()) {
    return nullptr;
  }
  const std::string_view close = format.thought_close[0];
  return std::make_shared<const ThoughtLimit>(ThoughtLimit{
      .tokens = request.thought_tokens,
      .open = std::string(format.thought_open[0]),
      .close = std::string(close),
      .close_tokens = engine.encode(close, /*add_special=*/false, /*parse_special=*/true),
      .begun = begun,
      .text_of = [&engine](Token token) { return engine.token_bytes(token, /*special=*/true); }});
}

using Generations = std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>>;

// What an earlier process has told of a choice is told again; whether that was all.
bool tell_again(Call& call, size_t choice, Generation& generation, GenerationSink& sink,
                KeptGeneration kept) {
  const auto heard = [&call] {
    while (const auto event = call.channel->pop(std::chrono::milliseconds(0))) call.answer->take(*event);
  };
  generation.written = std::move(kept.written);
  std::optional<Ending> ending = kept.ending;
  for (size_t i = 0; i < generation.written.size(); ++i) {
    const bool more = sink.on_token(generation.written[i]);
    heard();
    if (more && !call.answer->enough(choice)) continue;
    ending = more ? Ending::kCancelled : Ending::kSink;
    generation.written.resize(i + 1);
    break;
  }
  if (!ending) return false;
  GenerationEnd end{.ending = *ending,
                    .prompt_tokens = static_cast<int32_t>(generation.prompt.size()),
                    .generated_tokens = static_cast<int32_t>(generation.written.size()),
                    .patient = generation.patient};
  sink.on_end(end);
  heard();
  return true;
}

// Leaves those that are not over yet.
ApiStatus go_on_from_kept(Call& call, Generations& generations, const Client& client, RequestWork& work) {
  if (!client.keeper) return {};
  for (size_t i = 0; i < generations.size(); ++i) {
    auto& [generation, sink] = generations[i];
    // What is told of a prompt is told once, and by reading it.
    if (generation.prompt_logprobs) continue;
    generation.keeper = client.keeper(i);
    KeptGeneration kept = generation.keeper->kept();
    uint64_t bytes = kept.written.size() * (sizeof(GeneratedToken) + sizeof(Token));
    for (const GeneratedToken& token : kept.written) bytes += token.top.size() * sizeof(TokenLogprob);
    ODMOE_RETURN_IF_ERROR(work.take(bytes));
    if (tell_again(call, i, generation, *sink, std::move(kept))) sink.reset();
    if (call.answer->error()) return std::unexpected(*call.answer->error());
  }
  return {};
}

// Those without a sink are over.
ApiStatus submit(Call& call, Generations all) {
  call.tickets.resize(all.size());
  Generations generations;
  std::vector<size_t> choices;
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].second == nullptr) continue;
    choices.push_back(i);
    generations.push_back(std::move(all[i]));
  }
  if (generations.empty()) return {};
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
                                      end_tokens(engine), engine.model().n_vocab, engine.suppressed_tokens());
    if (const auto possible = chooser.check(); !possible.has_value()) {
      return std::unexpected(failure(ending_of(possible.error()), possible.error().error));
    }
  }
  call.deadline = first.deadline;
  auto tickets = call.model->scheduler->submit_all(std::move(generations));
  if (tickets.has_value()) {
    for (size_t i = 0; i < choices.size(); ++i) call.tickets[choices[i]] = std::move((*tickets)[i]);
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

AnswerStart Generator::start_of(const ServedModel& model, const Client& client) const {
  const std::optional<AnswerMark>& mark = client.mark;
  return {.engine = model.engine,
          .id = mark ? mark->id : random_id(),
          .model = options_->model_id,
          .created = mark ? mark->created : static_cast<int64_t>(std::time(nullptr))};
}

ApiResult<std::vector<Token>> Generator::prompt(ServedModel& model, ChatRequest request, const Client& client,
                                                RequestWork& work) {
  ODMOE_ASSIGN_OR_RETURN(ChatPrompt prompt, prompt_of(model, request, client, work));
  return std::move(prompt.tokens);
}

ApiResult<std::shared_ptr<Call>> Generator::start(const std::shared_ptr<ServedModel>& model,
                                                  ParsedRequest parsed, const Client& client,
                                                  RequestWork& work) {
  const uint64_t of_body = work.bytes();
  auto call = std::make_shared<Call>(model, memory_);
  Plan plan{.start = start_of(*model, client),
            .generations = {},
            .answer = {.memory = RequestMemory::Share(memory_)}};
  ODMOE_RETURN_IF_ERROR(std::visit(
      [&](auto& request) {
        plan.answer.stream = request.stream;
        plan.answer.kept = !request.stream || parsed.writer_keeps_answer;
        return prepare(request, client, work, *call, plan);
      },
      parsed.request));
  plan.start.n_choice = plan.generations.size();
  // The choices of a prompt stand together.
  for (size_t i = 0; i < plan.generations.size(); ++i) {
    const std::vector<size_t>& prompts = plan.answer.prompt_of_choice;
    if (i > 0 && prompts[i] == prompts[i - 1]) continue;
    plan.start.prompt_tokens += static_cast<int32_t>(plan.generations[i].first.prompt.size());
  }
  call->answer = std::make_unique<Answer>(std::move(plan.answer));
  call->writer = parsed.writer(plan.start);
  const uint64_t of_writer = std::min(parsed.writer_bytes, of_body);
  parsed = {};
  work.give_back_to(work.bytes() - of_body + of_writer);
  ODMOE_RETURN_IF_ERROR(go_on_from_kept(*call, plan.generations, client, work));
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

ApiResult<Generator::ChatPrompt> Generator::prompt_of(ServedModel& model, ChatRequest& request,
                                                      const Client& client, RequestWork& work) {
  const Engine& engine = *model.engine;
  if (!model.chat_template.has_value())
    return bad_request("messages", "{}", model.chat_template.error().message);
  const OutputFormat& format = *model.output.format;
  const bool may_call = !request.tools.empty() && request.tool_choice.kind != ToolChoice::Kind::kNone;
  if (may_call && !format.calls) {
    return bad_request(
        "tools",
        "how this model writes calls of tools is not known: its chat template has none of the forms "
        "{}; leave out tools",
        known_call_formats());
  }
  if (!may_call) request.conversation.tools.clear();
  ODMOE_RETURN_IF_ERROR(describe_images(client, request, work));
  const bool may_think = request.conversation.thinking != false;
  // What a grammar is about is the answer: thoughts do not come before it unless they are asked for, or the
  // model has no way without.
  if (holds_answer(request) && !request.conversation.thinking) request.conversation.thinking = false;
  const uint64_t before = work.bytes();
  const RenderingNeeds rendering = rendering_needs(request.conversation);
  const TokenBounds bounds = token_bounds(work, static_cast<size_t>(model.context), rendering.text);
  ODMOE_RETURN_IF_ERROR(work.take(rendering.all() + bounds.bytes));
  auto encoded = engine.encode_chat(request.conversation, **model.chat_template, bounds.limits,
                                    {.memory_bytes = rendering.values, .goes_on = bounds.limits.goes_on});
  if (!encoded.has_value()) return std::unexpected(prompt_error(model, encoded.error(), work, "messages"));
  work.give_back_to(before);
  ODMOE_ASSIGN_OR_RETURN(auto tokens, checked_prompt(model, std::move(*encoded), "messages"));
  return ChatPrompt{.tokens = std::move(tokens), .may_call = may_call, .may_think = may_think};
}

ApiStatus Generator::prepare(ChatRequest& request, const Client& client, RequestWork& work, Call& call,
                             Plan& plan) {
  ServedModel& model = *call.model;
  const Engine& engine = *model.engine;
  const OutputFormat& format = *model.output.format;
  const bool wants_grammar = asks_for_grammar(request);
  ODMOE_ASSIGN_OR_RETURN(const ChatPrompt prompt, prompt_of(model, request, client, work));
  const auto& [tokens, may_call, may_think] = prompt;

  const AnswerPlace place = place_of_answer(engine, format, request.conversation, tokens);
  const GrammarPlace held{.format = &format,
                          .start = place.start,
                          .may_think = may_think && model.output.thinks && !place.thought_ended};
  ODMOE_ASSIGN_OR_RETURN(const Grammar grammar, compiled(work, wants_grammar, [&](grammar::Stop stop) {
                           return grammar_of(engine, request, held, std::move(stop));
                         }));
  ODMOE_ASSIGN_OR_RETURN(const std::string begun, begun_text(request, grammar));
  const bool in_thought = place.start == OutputStart::kThought;
  const auto thought = thought_limit(engine, format, request, place);
  for (int32_t i = 0; i < request.n; ++i) {
    ODMOE_ASSIGN_OR_RETURN(Generation generation, generation_of(request, tokens, i, client, work));
    if (grammar) {
      generation.grammar = std::make_shared<grammar::TokenMasks>(
          grammar::TokenMasks{.grammar = grammar, .vocabulary = model.words(), .begun = begun});
    }
    generation.thought = thought;
    auto sink = std::make_shared<ChoiceSink>(engine, call.channel,
                                             ChoiceOptions{.choice = static_cast<size_t>(i),
                                                           .stop = request.stop,
                                                           .stop_tokens = request.stop_tokens,
                                                           .logprobs = request.top_logprobs >= 0,
                                                           .format = &format});
    plan.generations.emplace_back(std::move(generation), std::move(sink));
    AnswerChoice& choice = plan.answer.begun.emplace_back();
    if (request.echo) (in_thought ? choice.reasoning : choice.content) = begun;
  }
  plan.answer.prompt_of_choice.assign(plan.generations.size(), 0);
  ODMOE_ASSIGN_OR_RETURN(auto tools, kept_tools(format, std::move(request.tools), work));
  plan.answer.chat = ChatAnswerOptions{.format = &format,
                                       .start = place.start,
                                       .calls = may_call,
                                       .tools = std::move(tools),
                                       .id = plan.start.id,
                                       // A grammar ends behind the one call by itself, and always with
                                       // the same token.
                                       .one_call = may_call && !request.parallel_tool_calls && !grammar};
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
