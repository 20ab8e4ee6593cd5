#include "server/batch/batch_runner.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include "base/fingerprint.h"
#include "grammar/json_schema.h"
#include "grammar/token_mask.h"
#include "odmoe/format.h"
#include "server/call.h"
#include "server/generation_keeper.h"
#include "server/generator.h"
#include "server/limits.h"
#include "server/memory_needs.h"
#include "server/prompt_cache.h"
#include "server/routes.h"
#include "server/served_model.h"

namespace odmoe::server {
namespace {

// How long nothing is looked for when nothing came.
constexpr std::chrono::milliseconds kBatchPause{2};

ServerOptions server_options(const BatchOptions& options, int64_t now = 0) {
  ServerOptions server;
  server.model_id = options.model_id;
  server.chat_template = options.chat_template;
  server.chat_template.now = now;
  // A body is no longer than its line, but for characters that are written as others.
  server.max_body_bytes = options.longest_bytes == 0
                              ? kMaxBodyBytes
                              : std::max(2 * options.longest_bytes, size_t{kSmallRequestBytes});
  server.max_connections = 0;
  server.prompt_cache_bytes = options.prompt_cache_bytes;
  server.response_store_bytes = 0;
  server.prompt_reuse = PromptReuse::kExact;
  return server;
}

uint64_t requests_bytes(int32_t sessions) {
  return (static_cast<uint64_t>(sessions) + kBatchAhead) * kBatchRequestBytes;
}

// Whether it would go well with fewer under way.
bool is_for_want_of_room(const ApiError& error) {
  return error.status == 503 || error.status == 429 || error.status == 408;
}

Json string_or_null(bool there, const std::string& text) { return there ? Json(text) : Json(nullptr); }

// {"id", "custom_id", "response", "error"}, around what is JSON already.
std::string answer_line(const BatchRequest& request, std::string_view response, std::string_view error) {
  return odmoe::format("{}\"custom_id\":{},\"response\":{},\"error\":{}}}", batch_line_beginning(request.id),
                       dump_json(string_or_null(request.has_custom_id, request.custom_id)), response, error);
}

// `body`: JSON, which may be written in several lines.
std::string answer_line(const BatchRequest& request, int status, std::string body) {
  while (body.ends_with('\n')) body.pop_back();
  std::ranges::replace(body, '\n', ' ');
  return answer_line(
      request,
      odmoe::format("{{\"status_code\":{},\"request_id\":\"{}\",\"body\":{}}}", status, request.id, body),
      "null");
}

std::string body_text(const Body& body) {
  if (!body.write) return body.text;
  std::string text;
  body.write([&](std::string_view piece) {
    text += piece;
    return true;
  });
  return text;
}

class BatchRunner {
 public:
  BatchRunner(const BatchService& service, const BatchInput& input, BatchOutput& output,
              std::shared_ptr<BatchJournal> journal)
      : service_(service),
        input_(&input),
        output_(&output),
        journal_(std::move(journal)),
        generator_(service_.server, service_.memory),
        routes_(all_dialects()) {
    counts_.total = input.size();
    counts_.before = counts_.done = output.n_done();
  }

  Result<BatchCounts> run(const std::function<bool(const BatchCounts&)>& watch);

 private:
  struct UnderWay {
    size_t place = 0;
    BatchRequest request;
    const Dialect* dialect = nullptr;
    std::shared_ptr<Call> call;
  };
  bool may_begin() const;
  Status begin_next();
  Status begin(size_t place);
  ApiResult<std::shared_ptr<Call>> start(size_t place, const BatchRequest& request, const Dialect*& dialect);
  Result<bool> advance(UnderWay& one);
  Status end(const UnderWay& one);
  Status put(size_t place, std::string_view line, bool failed);

  const BatchService service_;
  const BatchInput* input_;
  BatchOutput* output_;
  const std::shared_ptr<BatchJournal> journal_;
  Generator generator_;
  const RouteTable routes_;
  std::function<bool(const BatchCounts&)> watch_;
  std::atomic<bool> stopping_ = false;
  size_t next_ = 0;               // that was not looked at yet
  std::deque<size_t> for_alone_;  // wait until none is under way: they found no room beside others
  std::list<UnderWay> under_way_;
  BatchCounts counts_;
};

Result<BatchCounts> BatchRunner::run(const std::function<bool(const BatchCounts&)>& watch) {
  watch_ = watch;
  while (counts_.done < counts_.total) {
    if (!watch(counts_)) {
      stopping_ = true;
      return fail(ErrorKind::kInterrupted, "interrupted");
    }
    if (may_begin()) {
      ODMOE_RETURN_IF_ERROR(begin_next());
      continue;
    }
    bool came = false;
    for (auto one = under_way_.begin(); one != under_way_.end();) {
      ODMOE_ASSIGN_OR_RETURN(const bool more, advance(*one));
      came = came || more;
      if (one->call->answer->finished()) {
        const UnderWay ended = std::move(*one);
        one = under_way_.erase(one);
        ODMOE_RETURN_IF_ERROR(end(ended));
      } else {
        ++one;
      }
    }
    if (!came) std::this_thread::sleep_for(kBatchPause);
  }
  return counts_;
}

bool BatchRunner::may_begin() const {
  if (!for_alone_.empty()) return under_way_.empty();
  const Scheduler::Load load = service_.model->scheduler->load();
  return next_ < counts_.total && (service_.patient ? load.patient_queued : load.queued) < kBatchAhead;
}

Status BatchRunner::begin_next() {
  if (!for_alone_.empty()) {
    const size_t place = for_alone_.front();
    for_alone_.pop_front();
    return begin(place);
  }
  const size_t place = next_++;
  return output_->is_done(place) ? Status() : begin(place);
}

Status BatchRunner::begin(size_t place) {
  ODMOE_ASSIGN_OR_RETURN(BatchRequest request, input_->request(place));
  if (!request.good.has_value()) return put(place, unanswered_line(request, request.good.error()), true);
  const Dialect* dialect = &routes_.default_dialect();
  auto call = start(place, request, dialect);
  if (call.has_value()) {
    request.body = {};
    under_way_.push_back(
        {.place = place, .request = std::move(request), .dialect = dialect, .call = std::move(*call)});
    return {};
  }
  if (!watch_(counts_)) return fail(ErrorKind::kInterrupted, "interrupted");  // it is refused for that
  if (is_for_want_of_room(call.error()) && !under_way_.empty()) {
    for_alone_.push_back(place);
    return {};
  }
  return put(place, answer_line(request, call.error().status, body_text(dialect->error(call.error()))), true);
}

ApiResult<std::shared_ptr<Call>> BatchRunner::start(size_t place, const BatchRequest& request,
                                                    const Dialect*& dialect) {
  const std::string path = routes_.canonical(request.url);
  const Route* route = routes_.find(path, "POST");
  if (route == nullptr || !std::ranges::contains(kBatchUrls, path)) {
    return bad_request("url", "a batch asks {}, {} or {}", kBatchUrls[0], kBatchUrls[1], kBatchUrls[2]);
  }
  dialect = route->dialect;
  RequestWork work(service_.memory, std::nullopt, &stopping_, [] { return false; });
  ODMOE_RETURN_IF_ERROR(work.take(request.body.size()));
  ODMOE_ASSIGN_OR_RETURN(ParsedRequest parsed,
                         dialect->parse(*route, request.body, service_.model->engine->model().n_vocab, work));
  const bool stream = std::visit([](const auto& asked) { return asked.stream; }, parsed.request);
  if (stream) return bad_request("stream", "the answers of a batch come whole: leave stream out");
  Client client{.owner = service_.owner,
                .mark = AnswerMark{.id = request.id, .created = output_->begun(), .seed = request.seed},
                .patient = service_.patient};
  if (journal_ != nullptr) {
    client.keeper = [this, place](size_t choice) { return journal_->keeper(place, choice); };
  }
  return generator_.start(service_.model, std::move(parsed), client, work);
}

// Takes what it has said meanwhile; whether that was anything.
Result<bool> BatchRunner::advance(UnderWay& one) {
  bool came = false;
  while (const auto event = one.call->channel->pop(std::chrono::milliseconds(0))) {
    came = true;
    counts_.generated_tokens += static_cast<uint64_t>(event->n_token);
    // A drive or a device that fails says nothing of the request.
    if (event->end && event->end->ending == Ending::kError &&
        (event->end->error.kind == ErrorKind::kIo || event->end->error.kind == ErrorKind::kDeviceLost)) {
      return std::unexpected(event->end->error);
    }
    one.call->take(*event);
  }
  return came;
}

Status BatchRunner::end(const UnderWay& one) {
  const Answer& answer = *one.call->answer;
  if (answer.error()) {
    // What was cancelled because all of it ends is asked again some day.
    if (!watch_(counts_)) return fail(ErrorKind::kInterrupted, "interrupted");
    if (is_for_want_of_room(*answer.error()) && !under_way_.empty()) {
      for_alone_.push_back(one.place);
      return {};
    }
    return put(
        one.place,
        answer_line(one.request, answer.error()->status, body_text(one.dialect->error(*answer.error()))),
        true);
  }
  AnswerUsage usage = answer.usage();
  usage.reused = 0;
  one.call->writer->complete(answer.choices(), usage);
  std::string body;
  one.call->writer->write_whole(answer.choices(), usage, [&](std::string_view piece) {
    body += piece;
    return true;
  });
  counts_.prompt_tokens += static_cast<uint64_t>(usage.prompt);
  return put(one.place, answer_line(one.request, 200, std::move(body)), false);
}

Status BatchRunner::put(size_t place, std::string_view line, bool failed) {
  ODMOE_RETURN_IF_ERROR(output_->put(place, line));
  if (journal_ != nullptr) journal_->done(place);
  ++counts_.done;
  counts_.failed += failed ? 1 : 0;
  return {};
}

// All of the engine's sessions, for a batch alone.
Result<std::shared_ptr<ServedModel>> model_of_batch(Engine& engine, const EngineOptions& engine_options,
                                                    const ServerOptions& server) {
  std::unique_ptr<PromptCache> cache;
  if (server.prompt_cache_bytes > 0) {
    ODMOE_ASSIGN_OR_RETURN(
        cache, PromptCache::create({.memory_bytes = server.prompt_cache_bytes,
                                    .directory = {},
                                    .identity = {},
                                    .check_identity = {},
                                    .chunk = engine_options.chunk,
                                    .reuse = PromptReuse::kExact,
                                    .states_hold_every_length = engine.model().state_holds_every_length}));
  }
  ODMOE_ASSIGN_OR_RETURN(auto scheduler, Scheduler::create(engine,
                                                           {.sessions = engine_options.sessions,
                                                            .chunk = engine_options.chunk,
                                                            .prompts = engine_options.prompts,
                                                            .waits_for_beginnings = true,
                                                            .max_queue = kMaxGenerations + kBatchAhead,
                                                            .reuse = PromptReuse::kExact,
                                                            .on_end = {}},
                                                           std::move(cache)));
  return make_served_model(
      engine, std::move(scheduler), engine_options.sessions,
      {.chat_template = server.chat_template, .model_path = engine_options.model.string()});
}

}  // namespace

BatchNeeds batch_needs(const BatchOptions& options, int32_t sessions) {
  const ServerNeeds needs = server_needs(server_options(options), sessions);
  uint64_t bytes = needs.bytes + requests_bytes(sessions);
  if (!options.may_ask_for_grammars) {
    bytes -= grammar::kMaxCompileBytes + static_cast<uint64_t>(sessions) * grammar::max_matcher_bytes(0);
  }
  return {.bytes = bytes, .bytes_per_token = needs.bytes_per_token};
}

Result<std::string> batch_identity(const Engine& engine, const BatchOptions& options,
                                   const BatchInput& input) {
  ODMOE_ASSIGN_OR_RETURN(const std::string states, engine.state_identity());
  Fingerprint all;
  all.add(input.fingerprint());
  all.add(states);
  all.add(static_cast<uint64_t>(engine.model().context));
  all.add(options.model_id);
  all.add(options.chat_template.source);
  all.add(options.chat_template.kwargs);
  return all.value().hex();
}

std::string unanswered_line(const BatchRequest& request, const BatchLineError& error) {
  return answer_line(request, "null", dump_json({{"code", error.code}, {"message", error.message}}));
}

Result<std::shared_ptr<BatchJournal>> open_journal(const Engine& engine, uint64_t state_bytes, int32_t chunk,
                                                   const BatchOutput& output,
                                                   std::function<bool(uint64_t bytes)> has_room) {
  BatchJournalOptions options{.directory = journal_path_of(output.path()),
                              .batch = odmoe::format("{} {}", output.identity(), output.begun()),
                              .identity = {},
                              .n_vocab = engine.model().n_vocab,
                              .chunk = chunk,
                              .state_bytes = state_bytes,
                              .has_room = std::move(has_room)};
  ODMOE_ASSIGN_OR_RETURN(options.identity, engine.state_identity());
  // That of the model stands for the one of the answers.
  const double probed = engine.stats().io.probed_bytes_per_second();
  if (probed > 0) options.drive_bytes_per_second = probed;
  return BatchJournal::open(options, [&](size_t place) { return output.is_done(place); });
}

Result<BatchCounts> answer_batch(const BatchService& service, const BatchInput& input, BatchOutput& output,
                                 const std::shared_ptr<BatchJournal>& journal,
                                 const std::function<bool(const BatchCounts&)>& watch) {
  BatchRunner runner(service, input, output, journal);
  auto counts = runner.run(watch);
  // Those that are under way are cancelled when the runner goes.
  if (!counts.has_value() && journal != nullptr) journal->interrupted();
  return counts;
}

Result<BatchCounts> run_batch(Engine& engine, const EngineOptions& engine_options,
                              const BatchOptions& options, const BatchInput& input, BatchOutput& output,
                              const std::function<bool(const BatchCounts&)>& watch) {
  BatchService service{
      .model = nullptr, .memory = nullptr, .server = server_options(options, output.begun())};
  service.memory = std::make_shared<RequestMemory>(request_memory_bytes(service.server) +
                                                   requests_bytes(engine_options.sessions));
  ODMOE_ASSIGN_OR_RETURN(service.model, model_of_batch(engine, engine_options, service.server));
  ODMOE_ASSIGN_OR_RETURN(auto journal,
                         open_journal(engine, options.state_bytes, engine_options.chunk, output));
  const auto counts = answer_batch(service, input, output, journal, watch);
  if (!counts.has_value()) {
    service.model->scheduler->drain();
    return counts;
  }
  BatchJournal::remove(journal_path_of(output.path()));
  ODMOE_RETURN_IF_ERROR(output.finish());
  return counts;
}

}  // namespace odmoe::server
