#include "server/server.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <ctime>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <utility>

#include "base/heap.h"
#include "odmoe/format.h"
#include "server/access.h"
#include "server/answer.h"
#include "server/call_grammar.h"
#include "server/channel.h"
#include "server/choice_sink.h"
#include "server/continuation.h"
#include "server/cors.h"
#include "server/event_log.h"
#include "server/limits.h"
#include "server/listener.h"
#include "server/live_events.h"
#include "server/memory_needs.h"
#include "server/metrics.h"
#include "server/page.h"
#include "server/request.h"
#include "server/request_memory.h"
#include "server/routes.h"
#include "server/scheduler.h"
#include "server/token_routes.h"

namespace odmoe::server {
namespace {

using Clock = std::chrono::steady_clock;

// What there is once the model is loaded.
struct Loaded {
  Engine* engine;
  std::unique_ptr<Scheduler> scheduler;
  int32_t context;
  int32_t sessions;
  // How calls are written; an error when the chat template is not known.
  Result<ToolCallSyntax> syntax;
  std::mutex checking;
  std::once_flag vocabulary_made;
  std::shared_ptr<const grammar::Vocabulary> vocabulary;  // made when the first grammar asks for it

  std::shared_ptr<const grammar::Vocabulary> words() {
    std::call_once(vocabulary_made, [this] {
      const auto bytes = [this](int32_t token) { return engine->token_bytes(token); };
      const auto is_end = [this](int32_t token) { return engine->is_end(token); };
      vocabulary = std::make_shared<grammar::Vocabulary>(engine->model().n_vocab, bytes, is_end);
    });
    return vocabulary;
  }
};

// One request on its way: what is generated for it and what its client is sent.
struct Call {
  Call(std::shared_ptr<Loaded> with, const std::shared_ptr<RequestMemory>& account)
      : loaded(std::move(with)),
        channel(std::make_shared<Channel>(kMaxHeldBackBytes, RequestMemory::Share(account))) {}

  std::shared_ptr<Loaded> loaded;
  RequestMemory::Share memory;  // what its generations take
  std::shared_ptr<Channel> channel;
  std::vector<Scheduler::Ticket> tickets;  // one per choice; cancel when they go
  std::unique_ptr<Answer> answer;
  std::optional<Clock::time_point> deadline;
  Clock::time_point last_sent = Clock::now();

  // The next event; nothing within kLiveness.  Sees to the deadline and to choices that said enough.
  std::optional<ChannelEvent> next() {
    auto event = channel->pop(kLiveness);
    if (deadline && Clock::now() >= *deadline) cancel(Ending::kDeadline);
    return event;
  }
  std::vector<Json> take(const ChannelEvent& event) {
    std::vector<Json> chunks = answer->take(event);
    if (!event.end && answer->enough(event.choice)) tickets[event.choice].cancel(Ending::kCancelled);
    // The other choices of a request that failed are nobody's.
    if (answer->error()) cancel(Ending::kCancelled);
    return chunks;
  }
  void cancel(Ending why) {
    for (Scheduler::Ticket& ticket : tickets) ticket.cancel(why);
  }
};

std::string random_id(std::string_view prefix) {
  static std::mutex mutex;
  static std::mt19937_64 random{std::random_device{}()};
  const std::lock_guard lock(mutex);
  return odmoe::format("{}{:016x}{:08x}", prefix, random(), static_cast<uint32_t>(random()));
}

void send(httplib::Response& response, const Json& json) {
  response.set_content(dump_json(json) + "\n", "application/json");
}

void send(httplib::Response& response, const ApiError& error) {
  response.status = error.status;
  if (error.retry_after_s > 0) response.set_header("Retry-After", std::to_string(error.retry_after_s));
  if (error.status == 401) response.set_header("WWW-Authenticate", "Bearer");
  response.set_content(error_json(error) + "\n", "application/json");
}

}  // namespace

Status ServerOptions::validate() const {
  if (host.empty()) return fail(ErrorKind::kUsage, "--host is empty; give an address, such as 127.0.0.1");
  if (port < 0 || port > 65535)
    return fail(ErrorKind::kUsage, "--port must be from 0 to 65535, not {}", port);
  if (max_body_bytes != 0 && max_body_bytes < 1024)
    return fail(ErrorKind::kUsage, "--max-body must be 1KiB or more");
  if (max_connections < 1 || max_connections > 4096) {
    return fail(ErrorKind::kUsage, "--max-connections must be from 1 to 4096, not {}", max_connections);
  }
  if (max_queue < 1 || max_queue > 4096) {
    return fail(ErrorKind::kUsage, "--queue must be from 1 to 4096, not {}", max_queue);
  }
  if (!cache_dir.empty() && prompt_cache_bytes == 0) {
    return fail(ErrorKind::kUsage,
                "--cache-dir needs --prompt-cache: what is saved and read goes by way of that memory");
  }
  for (const std::string& key : api_keys) {
    const bool printable = std::ranges::all_of(key, [](unsigned char c) { return c > 0x20 && c < 0x7F; });
    if (key.empty() || !printable) {
      return fail(ErrorKind::kUsage, "an API key must be of printable characters without spaces");
    }
  }
  for (const std::string& origin : cors_origins) ODMOE_RETURN_IF_ERROR(check_cors_origin(origin));
  for (const std::string& name : allowed_hosts) ODMOE_RETURN_IF_ERROR(check_allowed_host(name));
  return Vision(vision).check();
}

class Server::Impl {
 public:
  explicit Impl(const ServerOptions& options)
      : options_(options),
        memory_(std::make_shared<RequestMemory>(request_memory_bytes(options))),
        listener_({.connections = options.max_connections}),
        vision_(options.vision),
        events_(
            std::clamp<size_t>(options.max_connections / 2, 1, kMaxListeners),
            [this] { return live_subject(); }, [this] { return live_model(); }) {}

  Status listen() {
    set_up_listener();
    routes();
    port_ = listener_.bind(options_.host, options_.port);
    if (port_ <= 0) {
      return fail(ErrorKind::kIo,
                  "cannot listen on {}:{}: the port is taken or the address is not this machine's; "
                  "choose another with --port (0: any that is free)",
                  options_.host, options_.port);
    }
    listener_.start();
    return {};
  }

  Status serve(Engine& engine, const EngineOptions& engine_options) {
    SchedulerOptions options{.sessions = engine_options.sessions,
                             .chunk = engine_options.chunk,
                             .max_queue = options_.max_queue,
                             .reuse = options_.prompt_reuse,
                             .on_end = [this](const GenerationEnd& end) { metrics_.count_end(end); }};
    std::unique_ptr<PromptCache> cache;
    if (options_.prompt_cache_bytes > 0) {
      PromptCacheOptions kept{.memory_bytes = options_.prompt_cache_bytes,
                              .directory = options_.cache_dir,
                              .disk_bytes = options_.cache_dir_bytes,
                              .identity = {},
                              .chunk = engine_options.chunk,
                              .reuse = options_.prompt_reuse};
      if (!kept.directory.empty()) {
        ODMOE_ASSIGN_OR_RETURN(kept.identity, engine.state_identity());
        kept.check_identity = [&engine]() -> Status {
          ODMOE_ASSIGN_OR_RETURN(const std::string now, engine.state_identity());
          return {};
        };
      }
      ODMOE_ASSIGN_OR_RETURN(cache, PromptCache::create(kept));
    }
    ODMOE_ASSIGN_OR_RETURN(auto scheduler, Scheduler::create(engine, options, std::move(cache)));
    auto syntax = engine.tool_call_syntax(options_.chat_template);
    if (!syntax.has_value() && !options_.chat_template.empty()) return std::unexpected(syntax.error());
    if (!syntax.has_value()) {
      syntax.error().message += " with --chat-template NAME; /v1/completions works without";
      log_event(spdlog::level::warn, "no_chat_template", {{"why", syntax.error().message}});
    }
    const int32_t context = scheduler->context();
    const std::lock_guard lock(mutex_);
    loaded_ = std::shared_ptr<Loaded>(new Loaded{.engine = &engine,
                                                 .scheduler = std::move(scheduler),
                                                 .context = context,
                                                 .sessions = options.sessions,
                                                 .syntax = std::move(syntax),
                                                 .vocabulary_made = {},
                                                 .vocabulary = nullptr});
    return {};
  }

  bool drain(std::chrono::milliseconds limit) {
    draining_ = true;
    events_.end(std::min<std::chrono::milliseconds>(limit, kEndOfEvents));
    const auto end = Clock::now() + limit;
    const auto loaded = this->loaded();
    if (loaded) loaded->scheduler->drain();
    if (loaded && !loaded->scheduler->wait_idle(limit)) return false;
    // What was generated is still on its way to its clients.
    while (answering_ > 0) {
      if (Clock::now() >= end) return false;
      std::this_thread::sleep_for(kLiveness);
    }
    return true;
  }

  void stop() {
    draining_ = stopping_ = true;
    events_.end(std::chrono::milliseconds(0));
    std::shared_ptr<Loaded> loaded;
    {
      const std::lock_guard lock(mutex_);
      loaded = loaded_;
    }
    if (loaded) {
      loaded->scheduler->drain();
      loaded->scheduler->cancel_all();
    }
    // Those that are answered are told that it ends, as far as they take it in time.
    listener_.stop(kEndOfAnswers);
    loaded.reset();
    const std::lock_guard lock(mutex_);
    loaded_.reset();
  }

  int port() const { return port_; }
  const ServerOptions& options() const { return options_; }

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;

  std::shared_ptr<Loaded> loaded() const {
    const std::lock_guard lock(mutex_);
    return loaded_;
  }

  // What the live figures are of; nothing while the model is loading.
  std::optional<LiveSubject> live_subject() const {
    const auto loaded = this->loaded();
    if (!loaded) return std::nullopt;
    return LiveSubject{.engine = loaded->engine,
                       .load = loaded->scheduler->load(),
                       .sessions = loaded->sessions,
                       .max_queue = options_.max_queue};
  }
  // Only once there is a subject.
  Json live_model() const {
    const auto loaded = this->loaded();
    if (!loaded) return Json::object();  // it ended meanwhile
    return server::live_model(*loaded->engine, options_.model_id, loaded->syntax.has_value(),
                              loaded->context);
  }

  void set_up_listener();
  void routes();
  std::optional<ApiError> first_error(const Request& request) const;
  void health(Response& response);
  void models(const Request& request, Response& response);
  ApiStatus complete(const Request& request, std::string body, RequestWork& work, Response& response,
                     const std::shared_ptr<Loaded>& loaded);
  ApiStatus chat(const Request& request, std::string body, RequestWork& work, Response& response,
                 const std::shared_ptr<Loaded>& loaded);
  ApiStatus describe_images(const Request& request, ChatRequest& chat, RequestWork& work);

  // Wraps what needs the model.
  template <typename Handler>
  httplib::Server::Handler with_model(Handler handler) {
    return [this, handler](const Request& request, Response& response) {
      const auto loaded = this->loaded();
      if (!loaded || draining_) {
        return send(response,
                    ApiError{.status = 503,
                             .type = "server_error",
                             .message = draining_ ? "the server is shutting down" : "the model is loading",
                             .code = draining_ ? "shutting_down" : "model_loading",
                             .retry_after_s = draining_ ? 10 : 2});
      }
      const ApiStatus status = handler(request, response, loaded);
      if (!status.has_value()) send(response, status.error());
    };
  }
  // The same of what takes a body: read, answered and forgotten within what a request may take.
  template <typename Handler>
  httplib::Server::Handler with_body(Handler handler) {
    return with_model([this, handler](const Request& request, Response& response,
                                      const std::shared_ptr<Loaded>& loaded) -> ApiStatus {
      uint64_t most = 0;
      ApiStatus status;
      {
        std::optional<Clock::time_point> deadline;
        if (options_.timeout.count() > 0) deadline = Clock::now() + options_.timeout;
        RequestWork work(memory_, deadline, &stopping_, request.is_connection_closed);
        auto body =
            Listener::read_body(max_body_bytes(options_), [&](uint64_t bytes) { return work.take(bytes); });
        status = body.has_value() ? handler(request, std::move(*body), work, response, loaded)
                                  : ApiStatus(std::unexpected(std::move(body).error()));
        most = work.most_taken();
      }
      constexpr uint64_t kMuch = 1 << 20;
      if (most >= kMuch) return_free_memory();
      return status;
    });
  }

  AnswerOptions answer_options(const char* prefix, const CommonRequest& request, size_t n_choice) const {
    return {.id = random_id(prefix),
            .model = options_.model_id,
            .created = static_cast<int64_t>(std::time(nullptr)),
            .n_choice = n_choice,
            .top_logprobs = request.top_logprobs,
            .stream = request.stream,
            .include_usage = request.include_usage,
            .memory = RequestMemory::Share(memory_)};
  }

  ApiResult<std::vector<Token>> checked_prompt(const Loaded& loaded, std::vector<Token> prompt,
                                               const char* param) const;
  ApiError prompt_error(const Loaded& loaded, const Error& error, const RequestWork& work,
                        const char* param) const;
  ApiResult<Generation> generation(const Loaded& loaded, const CommonRequest& request,
                                   const std::vector<Token>& prompt, int32_t choice, RequestWork& work) const;
  ApiStatus submit(Call& call,
                   std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> generations);
  void answer_stream(const Request& request, Response& response, std::shared_ptr<Call> call);
  ApiStatus answer_whole(const Request& request, Response& response, std::shared_ptr<Call> call);
  void log_call(const Call& call, const char* what) const;
  // The grammar that a request wants, if it does.
  ApiResult<std::shared_ptr<const grammar::Grammar>> compiled(
      RequestWork& work, bool wanted,
      const std::function<ApiResult<std::shared_ptr<const grammar::Grammar>>(grammar::Stop)>& compile);

  ServerOptions options_;
  const std::shared_ptr<RequestMemory> memory_;
  Metrics metrics_;
  Listener listener_;
  Vision vision_;
  LiveEvents events_;
  int port_ = 0;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> stopping_ = false;  // what was not given to the scheduler yet is not to be
  std::atomic<int> answering_ = 0;
  mutable std::mutex mutex_;
  std::timed_mutex compiling_;  // held while a grammar is made
  std::shared_ptr<Loaded> loaded_;
};

// What is wrong with a request before any of its body is read.
std::optional<ApiError> Server::Impl::first_error(const Request& request) const {
  if (Listener::one_too_many()) return too_many_connections();
  return check_access(options_, request);
}

void Server::Impl::set_up_listener() {
  listener_.set_paths(canonical_path);
  listener_.set_refused([this](const std::string& client, const ApiError& error) {
    metrics_.count_request("other", error.status);
    log_event(spdlog::level::info, "refused",
              {{"client", client}, {"status", error.status}, {"why", error.message}});
  });
  listener_.set_pre_routing_handler([this](const Request& request, Response& response) {
    using Outcome = httplib::Server::HandlerResponse;
    add_cors(options_, request, response);
    const std::string_view methods = allowed_methods(request.path);
    if (const auto error = first_error(request)) {
      if (error->status == 405) response.set_header("Allow", std::string(methods));
      send(response, *error);
      return Outcome::Handled;
    }
    if (request.method == "OPTIONS") {
      response.status = 204;
      if (!methods.empty()) response.set_header("Allow", std::string(methods));
      return Outcome::Handled;
    }
    // A name may be anything, which the library's patterns would have to be told.
    if (!request.path.starts_with("/v1/models/")) return Outcome::Unhandled;
    models(request, response);
    return Outcome::Handled;
  });
  // The library's own answers in the shape of the others.
  listener_.set_error_handler([](const Request&, Response& response) {
    if (!response.body.empty()) return;
    send(response, from_status(response.status));
  });
  listener_.set_exception_handler([](const Request& request, Response& response, std::exception_ptr error) {
    std::string what = "unknown";
    try {
      std::rethrow_exception(std::move(error));
    } catch (const std::exception& exception) {
      what = exception.what();
    } catch (...) {
      what = "not an exception of the standard library";
    }
    log_event(spdlog::level::err, "exception", {{"path", request.path}, {"what", what}});
    send(response, from_status(500));
  });
  listener_.set_logger([this](const Request& request, const Response& response) {
    metrics_.count_request(route_label(request.path), response.status);
    log_event(spdlog::level::info, "request",
              {{"client", request.remote_addr},
               {"method", request.method},
               {"path", request.path},
               {"status", response.status}});
  });
}

void Server::Impl::routes() {
  listener_.Get("/", [](const Request&, Response& response) {
    for (const auto& [name, value] : live_page_headers()) response.set_header(name, value);
    response.set_content(live_page().data(), live_page().size(), "text/html; charset=utf-8");
  });
  listener_.Get("/v1/events", [this](const Request& request, Response& response) {
    const ApiStatus status = events_.answer(request, response);
    if (!status.has_value()) send(response, status.error());
  });
  listener_.Get("/health", [this](const Request&, Response& response) { health(response); });
  listener_.Get("/metrics", [this](const Request&, Response& response) {
    const auto loaded = this->loaded();
    const Stats stats = loaded ? loaded->engine->stats() : Stats();
    response.set_content(
        metrics_.text(loaded ? &stats : nullptr, loaded ? loaded->scheduler->load() : Scheduler::Load(),
                      listener_.connections()),
        "text/plain; version=0.0.4; charset=utf-8");
  });
  listener_.Get("/v1/stats",
                with_model([](const Request&, Response& response, const std::shared_ptr<Loaded>& loaded) {
                  response.set_content(stats_json(loaded->engine->stats()), "application/json");
                  return ApiStatus();
                }));
  listener_.Get("/v1/models",
                [this](const Request& request, Response& response) { models(request, response); });
  listener_.Post("/v1/completions",
                 with_body([this](const Request& request, std::string body, RequestWork& work,
                                  Response& response, const std::shared_ptr<Loaded>& loaded) {
                   return complete(request, std::move(body), work, response, loaded);
                 }));
  listener_.Post("/v1/chat/completions",
                 with_body([this](const Request& request, std::string body, RequestWork& work,
                                  Response& response, const std::shared_ptr<Loaded>& loaded) {
                   return chat(request, std::move(body), work, response, loaded);
                 }));
  listener_.Post("/tokenize", with_body([](const Request&, std::string body, RequestWork& work,
                                           Response& response, const std::shared_ptr<Loaded>& loaded) {
                   return answer_tokenize(*loaded->engine, std::move(body), work, response);
                 }));
  listener_.Post("/detokenize", with_body([](const Request&, std::string body, RequestWork& work,
                                             Response& response, const std::shared_ptr<Loaded>& loaded) {
                   return answer_detokenize(*loaded->engine, std::move(body), work, response);
                 }));
}

void Server::Impl::health(Response& response) {
  const auto loaded = this->loaded();
  Json json = {{"status", draining_ ? "draining"
                          : loaded  ? "ok"
                                    : "loading"},
               {"model_loaded", loaded != nullptr}};
  if (loaded) {
    const Stats::Experts experts = loaded->engine->stats().experts;
    json["expert_cache_stats"] = {{"cache_hits", experts.hits},
                                  {"cache_misses", experts.demands - experts.hits},
                                  {"hit_rate", experts.hit_rate()},
                                  {"working_set_experts", experts.working_set_experts}};
    const Scheduler::Load load = loaded->scheduler->load();
    json["requests"] = {{"running", load.running}, {"queued", load.queued}};
  }
  // Load balancers look at the status alone.
  response.status = loaded && !draining_ ? 200 : 503;
  if (!loaded) response.set_header("Retry-After", "2");
  send(response, json);
}

void Server::Impl::models(const Request& request, Response& response) {
  Json model = {{"id", options_.model_id}, {"object", "model"}, {"created", 0}, {"owned_by", "odmoe"}};
  if (const auto loaded = this->loaded()) {
    const ModelInfo& info = loaded->engine->model();
    model["meta"] = {{"architecture", info.architecture}, {"n_vocab", info.n_vocab},
                     {"n_context", loaded->context},      {"n_context_train", info.n_context_train},
                     {"n_expert", info.n_expert},         {"n_expert_used", info.n_expert_used},
                     {"file_bytes", info.file_bytes}};
  }
  if (request.path == "/v1/models")
    return send(response, Json{{"object", "list"}, {"data", Json::array({model})}});
  if (request.path == "/v1/models/" + options_.model_id) return send(response, model);
  send(response, ApiError{.status = 404,
                          .type = "invalid_request_error",
                          .message = odmoe::format("there is no such model here, only {}", options_.model_id),
                          .param = "model",
                          .code = "model_not_found"});
}

ApiError Server::Impl::prompt_error(const Loaded& loaded, const Error& error, const RequestWork& work,
                                    const char* param) const {
  ApiError refused = not_encoded(error, work, param);
  if (error.kind != ErrorKind::kBudget) return refused;
  refused.message = odmoe::format(
      "the prompt does not fit: {}, and this server's context is {} tokens; start it "
      "with a larger --context or shorten the prompt",
      error.message, loaded.context);
  refused.code = "context_length_exceeded";
  return refused;
}

ApiResult<std::vector<Token>> Server::Impl::checked_prompt(const Loaded& loaded, std::vector<Token> prompt,
                                                           const char* param) const {
  if (prompt.empty()) return bad_request(param, "the prompt is empty: give at least one token of text");
  if (std::cmp_greater(prompt.size(), loaded.context)) {
    auto error = bad_request(param,
                             "the prompt has {} tokens, and this server's context {}; start it with a larger "
                             "--context or shorten the prompt",
                             prompt.size(), loaded.context);
    error.error().code = "context_length_exceeded";
    return error;
  }
  return prompt;
}

ApiResult<Generation> Server::Impl::generation(const Loaded&, const CommonRequest& request,
                                               const std::vector<Token>& prompt, int32_t choice,
                                               RequestWork& work) const {
  uint64_t bytes = kGenerationBytes + prompt.size() * sizeof(Token) + request.logit_bias.size() * 8;
  for (const std::string& stop : request.stop) bytes += 8 * stop.size();
  ODMOE_RETURN_IF_ERROR(work.take(bytes));
  Generation generation{.prompt = prompt,
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

ApiStatus Server::Impl::submit(
    Call& call, std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> generations) {
  const Generation& first = generations.front().first;
  if (!first.logit_bias.empty() && first.max_tokens != 0) {
    // The choices share bias and grammar.  Refused before a prompt is read, and before a stream begins; one
    // after the other, for each takes a matcher's memory.
    const std::lock_guard lock(call.loaded->checking);
    const Engine& engine = *call.loaded->engine;
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
  auto tickets = call.loaded->scheduler->submit_all(std::move(generations));
  if (tickets.has_value()) {
    call.tickets = std::move(*tickets);
    return {};
  }
  const Refusal& refusal = tickets.error();
  if (refusal.draining) {
    return std::unexpected(ApiError{.status = 503,
                                    .type = "server_error",
                                    .message = "the server is shutting down",
                                    .code = "shutting_down",
                                    .retry_after_s = 10});
  }
  return std::unexpected(ApiError{.status = 429,
                                  .type = "rate_limit_error",
                                  .message = "too many requests wait already: try again later",
                                  .code = "queue_full",
                                  .retry_after_s = refusal.retry_after_s});
}

namespace {

// A body that was read to its end.
void forget(std::string& body, RequestWork& work) {
  const uint64_t bytes = body.size();
  body = std::string();
  work.give_back_to(work.bytes() - std::min(work.bytes(), bytes));
}

}  // namespace

ApiResult<std::shared_ptr<const grammar::Grammar>> Server::Impl::compiled(
    RequestWork& work, bool wanted,
    const std::function<ApiResult<std::shared_ptr<const grammar::Grammar>>(grammar::Stop)>& compile) {
  if (!wanted) return nullptr;
  // One at a time: what it takes is in the memory plan once.
  while (!compiling_.try_lock_for(kLiveness)) ODMOE_RETURN_IF_ERROR(work.goes_on());
  const std::lock_guard held(compiling_, std::adopt_lock);
  auto grammar = compile([&work] { return !work.hurries_on(); });
  ODMOE_RETURN_IF_ERROR(work.goes_on());
  if (grammar.has_value()) ODMOE_RETURN_IF_ERROR(work.take((*grammar)->bytes()));
  return grammar;
}

ApiStatus Server::Impl::complete(const Request& request, std::string text, RequestWork& work,
                                 Response& response, const std::shared_ptr<Loaded>& loaded) {
  Engine& engine = *loaded->engine;
  ODMOE_ASSIGN_OR_RETURN(CompletionRequest body,
                         parse_completion_request(text, engine.model().n_vocab, &work));
  forget(text, work);
  const uint64_t of_body = work.bytes();
  ODMOE_ASSIGN_OR_RETURN(const auto grammar, compiled(work, asks_for_grammar(body), [&](grammar::Stop stop) {
                           return grammar_of(body, std::move(stop));
                         }));
  auto call = std::make_shared<Call>(loaded, memory_);
  std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> generations;
  std::optional<std::vector<std::string>> echo;
  if (body.echo) echo.emplace();
  for (auto& prompt : body.prompts) {
    std::vector<Token> tokens;
    if (const auto* said = std::get_if<std::string>(&prompt)) {
      const TokenBounds bounds = token_bounds(work, static_cast<size_t>(loaded->context), said->size());
      const uint64_t before = work.bytes();
      ODMOE_RETURN_IF_ERROR(work.take(bounds.bytes));
      auto encoded = engine.encode_within(*said, true, true, bounds.limits);
      if (!encoded.has_value())
        return std::unexpected(prompt_error(*loaded, encoded.error(), work, "prompt"));
      tokens = std::move(*encoded);
      work.give_back_to(before);
    } else {
      tokens = std::move(std::get<std::vector<Token>>(prompt));
    }
    ODMOE_ASSIGN_OR_RETURN(tokens, checked_prompt(*loaded, std::move(tokens), "prompt"));
    if (echo) {
      const auto* said = std::get_if<std::string>(&prompt);
      echo->push_back(said != nullptr ? *said : engine.decode(tokens));
      // Each choice has it, and its answer as text and JSON.
      ODMOE_RETURN_IF_ERROR(work.take(echo->back().size() * static_cast<size_t>(1 + 5 * body.n)));
    }
    for (int32_t i = 0; i < body.n; ++i) {
      ODMOE_ASSIGN_OR_RETURN(Generation generation, this->generation(*loaded, body, tokens, i, work));
      generation.owner = owner_of(options_, request);
      generation.prompt_logprobs = body.echo && body.top_logprobs >= 0;
      if (grammar) {
        generation.grammar = std::make_shared<grammar::TokenMasks>(
            grammar::TokenMasks{.grammar = grammar, .vocabulary = loaded->words()});
      }
      auto sink = std::make_shared<ChoiceSink>(engine, call->channel,
                                               ChoiceOptions{.choice = generations.size(),
                                                             .stop = body.stop,
                                                             .stop_tokens = body.stop_tokens,
                                                             .logprobs = body.top_logprobs >= 0,
                                                             .echo = generation.prompt_logprobs});
      generations.emplace_back(std::move(generation), std::move(sink));
    }
  }
  call->answer = make_completion_answer(engine, answer_options("cmpl-", body, generations.size()), body.n,
                                        std::move(echo));
  const bool stream = body.stream;
  body = CompletionRequest();
  work.give_back_to(work.bytes() - of_body);
  call->memory = work.keep();
  ODMOE_RETURN_IF_ERROR(submit(*call, std::move(generations)));
  if (!stream) return answer_whole(request, response, std::move(call));
  answer_stream(request, response, std::move(call));
  return {};
}

// Puts the descriptions where the images were.
ApiStatus Server::Impl::describe_images(const Request& request, ChatRequest& chat, RequestWork& work) {
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
  ODMOE_ASSIGN_OR_RETURN(const auto texts,
                         vision_.describe(urls, request.is_connection_closed, owner_of(options_, request)));
  work.give_back_to(before);
  for (size_t i = chat.images.size(); i-- > 0;) {  // from the last, so that places stay what they are
    const Image& image = chat.images[i];
    chat.conversation.turns[image.turn].content.insert(image.at,
                                                       odmoe::format("[Image {}: {}]\n", i + 1, texts[i]));
  }
  return {};
}

namespace {

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

}  // namespace

ApiStatus Server::Impl::chat(const Request& request, std::string text, RequestWork& work, Response& response,
                             const std::shared_ptr<Loaded>& loaded) {
  Engine& engine = *loaded->engine;
  ODMOE_ASSIGN_OR_RETURN(ChatRequest body, parse_chat_request(text, engine.model().n_vocab, &work));
  forget(text, work);
  const uint64_t of_body = work.bytes();
  if (!loaded->syntax.has_value()) return bad_request("messages", "{}", loaded->syntax.error().message);
  const ToolCallSyntax syntax = *loaded->syntax;
  ODMOE_ASSIGN_OR_RETURN(const auto grammar, compiled(work, asks_for_grammar(body), [&](grammar::Stop stop) {
                           return grammar_of(engine, body, syntax, std::move(stop));
                         }));
  ODMOE_ASSIGN_OR_RETURN(const std::string begun, begun_text(body, grammar));
  ODMOE_RETURN_IF_ERROR(describe_images(request, body, work));
  const bool may_call = !body.tools.empty() && body.tool_choice.kind != ToolChoice::Kind::kNone;
  if (!may_call) body.conversation.tools.clear();
  // What a grammar is about is the answer: thoughts do not come before it unless they are asked for, or the
  // model has no way without.
  if (grammar && !body.conversation.thinking) body.conversation.thinking = false;
  const uint64_t before = work.bytes();
  const uint64_t rendering = rendering_bytes(body.conversation);
  const TokenBounds bounds = token_bounds(work, static_cast<size_t>(loaded->context), rendering / 3);
  ODMOE_RETURN_IF_ERROR(work.take(rendering + bounds.bytes));
  auto encoded = engine.encode_chat(body.conversation, options_.chat_template, bounds.limits);
  if (!encoded.has_value()) return std::unexpected(prompt_error(*loaded, encoded.error(), work, "messages"));
  work.give_back_to(before);
  ODMOE_ASSIGN_OR_RETURN(const std::vector<Token> tokens,
                         checked_prompt(*loaded, std::move(*encoded), "messages"));

  const AssistantText::Start start = start_of(engine, body.conversation, tokens);
  const std::string thought_end = "</think>";
  const std::vector<Token> thought_end_tokens = engine.encode(thought_end, false, true);
  auto call = std::make_shared<Call>(loaded, memory_);
  std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> generations;
  for (int32_t i = 0; i < body.n; ++i) {
    ODMOE_ASSIGN_OR_RETURN(Generation generation, this->generation(*loaded, body, tokens, i, work));
    generation.owner = owner_of(options_, request);
    if (grammar) {
      generation.grammar = std::make_shared<grammar::TokenMasks>(
          grammar::TokenMasks{.grammar = grammar, .vocabulary = loaded->words(), .begun = begun});
      if (start == AssistantText::Start::kThought) {
        generation.grammar_after = thought_end;
        if (thought_end_tokens.size() == 1) generation.grammar_after_token = thought_end_tokens[0];
      }
    }
    auto sink = std::make_shared<ChoiceSink>(engine, call->channel,
                                             ChoiceOptions{.choice = static_cast<size_t>(i),
                                                           .stop = body.stop,
                                                           .stop_tokens = body.stop_tokens,
                                                           .logprobs = body.top_logprobs >= 0,
                                                           .show_markup = true});
    generations.emplace_back(std::move(generation), std::move(sink));
  }
  ChatAnswerOptions chat{.syntax = may_call ? std::optional(syntax) : std::nullopt,
                         .start = start,
                         .echo = body.echo ? begun : "",
                         .one_call = may_call && !body.parallel_tool_calls};
  call->answer = make_chat_answer(engine, answer_options("chatcmpl-", body, generations.size()), chat);
  const bool stream = body.stream;
  body = ChatRequest();
  work.give_back_to(work.bytes() - of_body);
  call->memory = work.keep();
  ODMOE_RETURN_IF_ERROR(submit(*call, std::move(generations)));
  if (!stream) return answer_whole(request, response, std::move(call));
  answer_stream(request, response, std::move(call));
  return {};
}

void Server::Impl::log_call(const Call& call, const char* what) const {
  log_event(spdlog::level::info, what,
            {{"prompt_tokens", call.answer->prompt_tokens()},
             {"reused_tokens", call.answer->reused_tokens()},
             {"generated_tokens", call.answer->generated_tokens()}});
}

ApiStatus Server::Impl::answer_whole(const Request& request, Response& response, std::shared_ptr<Call> call) {
  struct Count {
    std::atomic<int>* n;
    explicit Count(std::atomic<int>* count) : n(count) { n->fetch_add(1); }
    ~Count() { n->fetch_sub(1); }
  } count(&answering_);
  while (!call->answer->finished()) {
    if (const auto event = call->next()) {
      call->take(*event);
    } else if (request.is_connection_closed()) {
      call->cancel(Ending::kCancelled);
      log_call(*call, "client_gone");
      return std::unexpected(
          ApiError{.status = 499, .type = "server_error", .message = "the client went away"});
    }
  }
  log_call(*call, "answered");
  if (call->answer->error()) return std::unexpected(*call->answer->error());
  send_pieces(response, [call](const PieceSink& sink) { return call->answer->write_whole(sink); });
  return {};
}

void Server::Impl::answer_stream(const Request& request, Response& response, std::shared_ptr<Call> call) {
  answering_.fetch_add(1);
  response.set_header("Cache-Control", "no-cache");
  response.set_header("X-Accel-Buffering", "no");  // proxies are to pass on what there is
  const auto write = [](httplib::DataSink& sink, const std::string& text) {
    return sink.write(text.data(), text.size());
  };
  const auto write_all = [write](httplib::DataSink& sink, const std::vector<Json>& chunks) {
    std::string text;
    for (const Json& chunk : chunks) text += "data: " + dump_json(chunk) + "\n\n";
    return text.empty() || write(sink, text);
  };
  auto begun = std::make_shared<bool>(false);
  Listener::stream(
      request, response, "text/event-stream",
      [this, call, begun, write, write_all, closed = request.is_connection_closed](size_t,
                                                                                   httplib::DataSink& sink) {
        if (!*begun) {
          *begun = true;
          return write_all(sink, call->answer->begin());
        }
        const auto event = call->next();
        if (!event) {
          if (closed()) return false;
          if (Clock::now() - call->last_sent < kStreamKeepAlive) return true;
          call->last_sent = Clock::now();
          return write(sink, ": still here\n\n");
        }
        call->last_sent = Clock::now();
        if (!write_all(sink, call->take(*event))) return false;
        if (!call->answer->finished()) return true;
        if (const auto& error = call->answer->error()) {
          if (!write(sink, "data: " + error_json(*error) + "\n\n")) return false;
        } else if (const auto usage = call->answer->usage_chunk()) {
          if (!write_all(sink, {*usage})) return false;
        }
        if (!write(sink, "data: [DONE]\n\n")) return false;
        sink.done();
        return true;
      },
      [this, call](bool) {
        log_call(*call, call->answer->finished() ? "answered" : "client_gone");
        call->tickets.clear();  // whatever still runs is nobody's
        answering_.fetch_sub(1);
      });
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::listen(const ServerOptions& options) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  // Before the model is loaded, which takes long.
  if (!options.cache_dir.empty()) ODMOE_RETURN_IF_ERROR(PromptCache::prepare(options.cache_dir));
  auto impl = std::make_unique<Impl>(options);
  ODMOE_RETURN_IF_ERROR(impl->listen());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::~Server() { stop(); }
int Server::port() const { return impl_->port(); }
std::string Server::url() const {
  const std::string& host = impl_->options().host;
  const bool v6 = host.contains(':');
  return odmoe::format("http://{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", impl_->port());
}
Status Server::serve(Engine& engine, const EngineOptions& engine_options) {
  return impl_->serve(engine, engine_options);
}
bool Server::drain(std::chrono::milliseconds limit) { return impl_->drain(limit); }
void Server::stop() { impl_->stop(); }

}  // namespace odmoe::server
