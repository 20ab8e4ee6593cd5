#include "server/server.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <thread>
#include <utility>

#include "base/heap.h"
#include "base/mutex.h"
#include "odmoe/format.h"
#include "server/access.h"
#include "server/batch/batch_store.h"
#include "server/batch/batch_worker.h"
#include "server/call.h"
#include "server/cors.h"
#include "server/encode_bounds.h"
#include "server/event_log.h"
#include "server/generator.h"
#include "server/http_answer.h"
#include "server/json_guard.h"
#include "server/limits.h"
#include "server/listener.h"
#include "server/live_events.h"
#include "server/memory_needs.h"
#include "server/metrics.h"
#include "server/page.h"
#include "server/request_memory.h"
#include "server/routes.h"
#include "server/scheduler.h"
#include "server/served_model.h"

namespace odmoe::server {
namespace {

using Clock = std::chrono::steady_clock;

ApiError not_there(bool draining) {
  return {.status = 503,
          .fault = Fault::kServer,
          .message = draining ? "the server is shutting down" : "the model is loading",
          .code = draining ? "shutting_down" : "model_loading",
          .retry_after_s = draining ? 10 : 2};
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
                "--cache-dir needs --prompt-cache: what it saves and reads passes through that memory");
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
  Impl(const ServerOptions& options, Dialects dialects, std::shared_ptr<BatchStore> batches)
      : options_(options),
        batches_(std::move(batches)),
        routes_(std::move(dialects)),
        memory_(std::make_shared<RequestMemory>(request_memory_bytes(options))),
        listener_({.connections = options.max_connections},
                  [this](const ApiError& error) { return routes_.default_dialect().error(error); }),
        generator_(options_, memory_),
        events_(
            std::clamp<size_t>(options.max_connections / 2, 1, kMaxSubscribers),
            [this] { return live_subject(); }, [this] { return live_model(); }) {}

  Status listen() {
    set_up_listener();
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
    const int32_t of_batches = batches_ != nullptr ? options_.batch_width : 0;
    SchedulerOptions options{.sessions = engine_options.sessions - of_batches,
                             .patient_sessions = of_batches,
                             .chunk = engine_options.chunk,
                             .prompts = batches_ != nullptr ? engine_options.prompts : 1,
                             .max_queue = options_.max_queue,
                             .reuse = options_.prompt_reuse,
                             .on_end = [this](const GenerationEnd& end) { metrics_.count_end(end); }};
    TurnLedgerOptions ledger{.chunk = engine_options.chunk, .memory_bytes = kTurnLedgerBytes};
    std::unique_ptr<PromptCache> cache;
    if (options_.prompt_cache_bytes > 0) {
      PromptCacheOptions kept{.memory_bytes = options_.prompt_cache_bytes,
                              .directory = options_.cache_dir,
                              .disk_bytes = options_.cache_dir_bytes,
                              .identity = {},
                              .chunk = engine_options.chunk,
                              .reuse = options_.prompt_reuse,
                              .states_hold_every_length = engine.model().state_holds_every_length};
      if (!kept.directory.empty()) {
        ODMOE_ASSIGN_OR_RETURN(kept.identity, engine.state_identity());
        kept.check_identity = [&engine]() -> Status {
          ODMOE_ASSIGN_OR_RETURN(const std::string now, engine.state_identity());
          return {};
        };
      }
      ODMOE_ASSIGN_OR_RETURN(cache, PromptCache::create(kept));
      ledger.identity = kept.identity;
      if (!kept.directory.empty()) ledger.file = TurnLedger::file_in(kept.directory, kept.identity);
    }
    const bool remembers = options.reuse == PromptReuse::kConversation;
    ODMOE_ASSIGN_OR_RETURN(auto scheduler,
                           Scheduler::create(engine, options, std::move(cache),
                                             remembers ? std::make_unique<TurnLedger>(ledger) : nullptr));
    ODMOE_ASSIGN_OR_RETURN(auto model, make_served_model(engine, std::move(scheduler), options.sessions,
                                                         {.chat_template = options_.chat_template,
                                                          .sees_images = !options_.vision.url.empty(),
                                                          .model_path = engine_options.model.string()}));
    const MutexLock lock(mutex_);
    if (batches_ != nullptr && !draining_) {
      worker_ = std::make_unique<BatchWorker>(
          batches_, model, options_,
          BatchWorkerOptions{.sessions = of_batches, .chunk = engine_options.chunk});
    }
    loaded_ = std::move(model);
    return {};
  }

  bool drain(std::chrono::milliseconds limit) {
    draining_ = true;
    stop_batches();
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
    stop_batches();
    events_.end(std::chrono::milliseconds(0));
    std::shared_ptr<ServedModel> loaded;
    {
      const MutexLock lock(mutex_);
      loaded = loaded_;
    }
    if (loaded) {
      loaded->scheduler->drain();
      loaded->scheduler->cancel_all();
    }
    // Those that are answered are told that it ends, as far as they take it in time.
    listener_.stop(kEndOfAnswers);
    std::unique_ptr<BatchWorker> worker;
    {
      const MutexLock lock(mutex_);
      worker = std::move(worker_);
    }
    worker.reset();
    loaded.reset();
    const MutexLock lock(mutex_);
    loaded_.reset();
  }

  int port() const { return port_; }
  const ServerOptions& options() const { return options_; }

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;

  std::shared_ptr<ServedModel> loaded() const {
    const MutexLock lock(mutex_);
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
    return server::live_model(*loaded->engine, options_.model_id, loaded->chat_template.has_value(),
                              loaded->context);
  }

  void stop_batches() {
    const MutexLock lock(mutex_);
    if (worker_ != nullptr) worker_->stop();
  }

  void set_up_listener();
  void answer(const Route& route, const Request& request, Response& response);
  ApiStatus try_answer(const Route& route, const Request& request, Response& response,
                       const std::shared_ptr<ServedModel>& loaded);
  ApiStatus answer_with_body(const Route& route, const Request& request, Response& response,
                             const std::shared_ptr<ServedModel>& loaded);
  ApiStatus generate(const Route& route, const Request& request, Response& response,
                     const std::shared_ptr<ServedModel>& loaded, std::string body, RequestWork& work);
  void health(Response& response, const std::shared_ptr<ServedModel>& loaded);
  const Dialect& dialect_of(const Request& request) const {
    return routes_.dialect_of(request.path, request.method);
  }

  const ServerOptions options_;
  const std::shared_ptr<BatchStore> batches_;  // null: there are none
  const RouteTable routes_;
  const std::shared_ptr<RequestMemory> memory_;
  Metrics metrics_;
  Listener listener_;
  Generator generator_;
  LiveEvents events_;
  int port_ = 0;
  std::atomic<bool> draining_ = false;
  std::atomic<bool> stopping_ = false;  // what was not given to the scheduler yet is not to be
  std::atomic<int> answering_ = 0;
  mutable Mutex mutex_;
  std::shared_ptr<ServedModel> loaded_ ODMOE_GUARDED_BY(mutex_);
  std::unique_ptr<BatchWorker> worker_ ODMOE_GUARDED_BY(mutex_);  // from serve() to stop()
};

void Server::Impl::set_up_listener() {
  listener_.set_paths([this](std::string_view path) { return routes_.canonical(path); });
  listener_.set_refused([this](const std::string& client, const ApiError& error) {
    metrics_.count_request("other", error.status);
    log_event(spdlog::level::info, "refused",
              {{"client", client}, {"status", error.status}, {"why", error.message}});
  });
  // The library's own table of routes stays empty: ours knows more of them.
  listener_.set_pre_routing_handler([this](const Request& request, Response& response) {
    using Outcome = httplib::Server::HandlerResponse;
    add_cors(options_, request, response);
    // What is wrong with a request before any of its body is read.
    const auto error = Listener::one_too_many() ? std::optional(too_many_connections())
                                                : check_access(options_, routes_, request);
    const std::string methods = routes_.allowed_methods(request.path);
    if (error) {
      if (error->status == 405) response.set_header("Allow", methods);
      send(response, *error, dialect_of(request));
    } else if (request.method == "OPTIONS") {
      response.status = 204;
      if (!methods.empty()) response.set_header("Allow", methods);
    } else {
      answer(*routes_.find(request.path, request.method), request, response);
    }
    return Outcome::Handled;
  });
  // The library's own answers in the shape of the others.
  listener_.set_error_handler([this](const Request& request, Response& response) {
    if (!response.body.empty()) return;
    send(response, from_status(response.status), dialect_of(request));
  });
  listener_.set_exception_handler(
      [this](const Request& request, Response& response, std::exception_ptr error) {
        std::string what = "unknown";
        try {
          std::rethrow_exception(std::move(error));
        } catch (const std::exception& exception) {
          what = exception.what();
        } catch (...) {
          what = "not an exception of the standard library";
        }
        log_event(spdlog::level::err, "exception", {{"path", request.path}, {"what", what}});
        send(response, from_status(500), dialect_of(request));
      });
  listener_.set_logger([this](const Request& request, const Response& response) {
    metrics_.count_request(routes_.label(request.path), response.status);
    log_event(spdlog::level::info, "request",
              {{"client", request.remote_addr},
               {"method", request.method},
               {"path", request.path},
               {"status", response.status}});
  });
}

void Server::Impl::answer(const Route& route, const Request& request, Response& response) {
  const auto loaded = this->loaded();
  const bool there = !route.needs_model || (loaded && !draining_);
  const ApiStatus status =
      there ? try_answer(route, request, response, loaded) : ApiStatus(std::unexpected(not_there(draining_)));
  if (!status.has_value()) send(response, status.error(), *route.dialect);
}

ApiStatus Server::Impl::try_answer(const Route& route, const Request& request, Response& response,
                                   const std::shared_ptr<ServedModel>& loaded) {
  if (route.takes_body) return answer_with_body(route, request, response, loaded);
  switch (route.handler) {
    case Route::Handler::kPage:
      for (const auto& [name, value] : live_page_headers()) response.set_header(name, value);
      response.set_content(live_page().data(), live_page().size(), "text/html; charset=utf-8");
      return {};
    case Route::Handler::kHealth:
      health(response, loaded);
      return {};
    case Route::Handler::kMetrics: {
      const Stats stats = loaded ? loaded->engine->stats() : Stats();
      send(response, {.type = "text/plain; version=0.0.4; charset=utf-8",
                      .text = metrics_.text(loaded ? &stats : nullptr,
                                            loaded ? loaded->scheduler->load() : Scheduler::Load(),
                                            listener_.connections())});
      return {};
    }
    case Route::Handler::kStats:
      send(response, {.text = stats_json(loaded->engine->stats())});
      return {};
    case Route::Handler::kEvents:
      return events_.answer(request, response);
    case Route::Handler::kPlain:
    case Route::Handler::kGenerate:
    case Route::Handler::kPrompt:
      break;
  }
  ODMOE_ASSIGN_OR_RETURN(
      Body body, route.dialect->answer(route, {.path = request.path,
                                               .model_id = options_.model_id,
                                               .model = loaded,
                                               .owner = key_owner_of(options_, request),
                                               .query = request.params,
                                               .content_type = request.get_header_value("Content-Type"),
                                               .read_body = Listener::read_body_in_pieces}));
  send(response, std::move(body));
  return {};
}

// Reads the body, answers it and forgets it within what a request may take.
ApiStatus Server::Impl::answer_with_body(const Route& route, const Request& request, Response& response,
                                         const std::shared_ptr<ServedModel>& loaded) {
  const auto handle = [&](std::string body, RequestWork& work) -> ApiStatus {
    if (route.handler == Route::Handler::kGenerate || route.handler == Route::Handler::kPrompt) {
      return generate(route, request, response, loaded, std::move(body), work);
    }
    ODMOE_ASSIGN_OR_RETURN(Body answer, route.dialect->answer(route, {.path = request.path,
                                                                      .body = std::move(body),
                                                                      .work = &work,
                                                                      .model_id = options_.model_id,
                                                                      .model = loaded,
                                                                      .owner = work.owner(),
                                                                      .query = request.params}));
    send(response, std::move(answer));
    return {};
  };
  uint64_t most = 0;
  ApiStatus status;
  {
    std::optional<Clock::time_point> deadline;
    if (options_.timeout.count() > 0) deadline = Clock::now() + options_.timeout;
    RequestWork work(memory_, deadline, &stopping_, request.is_connection_closed);
    work.belongs_to(key_owner_of(options_, request));
    auto body =
        Listener::read_body(max_body_bytes(options_), [&](uint64_t bytes) { return work.take(bytes); });
    status = body.has_value() ? handle(std::move(*body), work)
                              : ApiStatus(std::unexpected(std::move(body).error()));
    most = work.most_taken();
  }
  constexpr uint64_t kMuch = 1 << 20;
  if (most >= kMuch) return_free_memory();
  return status;
}

ApiStatus Server::Impl::generate(const Route& route, const Request& request, Response& response,
                                 const std::shared_ptr<ServedModel>& loaded, std::string body,
                                 RequestWork& work) {
  ODMOE_ASSIGN_OR_RETURN(ParsedRequest parsed,
                         route.dialect->parse(route, body, loaded->engine->model().n_vocab, work));
  forget_body(body, work);
  const Client client{.owner = owner_of(options_, request), .gone = request.is_connection_closed};
  if (parsed.at_once) {
    send(response, parsed.at_once(generator_.start_of(*loaded, client)));
    return {};
  }
  if (route.handler == Route::Handler::kPrompt) {
    ODMOE_ASSIGN_OR_RETURN(
        const std::vector<Token> prompt,
        generator_.prompt(*loaded, std::get<ChatRequest>(std::move(parsed.request)), client, work));
    send(response, parsed.prompted(*loaded, prompt));
    return {};
  }
  ODMOE_ASSIGN_OR_RETURN(auto call, generator_.start(loaded, std::move(parsed), client, work));
  if (!call->answer->is_stream()) return answer_whole(request, response, std::move(call), answering_);
  answer_stream(request, response, std::move(call), answering_);
  return {};
}

void Server::Impl::health(Response& response, const std::shared_ptr<ServedModel>& loaded) {
  const Status device = loaded ? loaded->engine->device_condition() : Status();
  Json json = {{"status", draining_             ? "draining"
                          : !loaded             ? "loading"
                          : !device.has_value() ? "device_lost"
                                                : "ok"},
               {"model_loaded", loaded != nullptr}};
  if (!device.has_value()) json["error"] = device.error().message;
  if (loaded) {
    const Stats::Experts experts = loaded->engine->stats().experts;
    json["expert_cache_stats"] = {{"cache_hits", experts.hits},
                                  {"cache_misses", experts.demands - experts.hits},
                                  {"hit_rate", experts.hit_rate()},
                                  {"working_set_experts", experts.working_set_experts}};
    const Scheduler::Load load = loaded->scheduler->load();
    json["requests"] = {{"running", load.running}, {"queued", load.queued}};
    if (batches_ != nullptr) {
      json["batch_requests"] = {{"running", load.patient_running}, {"queued", load.patient_queued}};
    }
  }
  // Load balancers look at the status alone.
  response.status = loaded && !draining_ && device.has_value() ? 200 : 503;
  if (!loaded) response.set_header("Retry-After", "2");
  send(response, {.text = dump_json(json) + "\n"});
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Server>> Server::listen(const ServerOptions& options) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  std::shared_ptr<BatchStore> batches;
  if (!options.batch_dir.empty()) {
    ODMOE_ASSIGN_OR_RETURN(
        batches, BatchStore::open({.directory = options.batch_dir, .disk_bytes = options.batch_disk_bytes}));
  }
  return listen(options,
                all_dialects({.response_store_bytes = options.response_store_bytes, .batches = batches}),
                batches);
}

Result<std::unique_ptr<Server>> Server::listen(const ServerOptions& options, Dialects dialects) {
  return listen(options, std::move(dialects), nullptr);
}

Result<std::unique_ptr<Server>> Server::listen(const ServerOptions& options, Dialects dialects,
                                               std::shared_ptr<BatchStore> batches) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  // Before the model is loaded, which takes long.
  if (!options.cache_dir.empty()) ODMOE_RETURN_IF_ERROR(PromptCache::prepare(options.cache_dir));
  auto impl = std::make_unique<Impl>(options, std::move(dialects), std::move(batches));
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
