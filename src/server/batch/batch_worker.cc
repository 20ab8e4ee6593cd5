#include "server/batch/batch_worker.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "base/fingerprint.h"
#include "odmoe/format.h"
#include "server/event_log.h"
#include "server/limits.h"
#include "server/memory_needs.h"

namespace odmoe::server {
namespace {

constexpr std::chrono::milliseconds kLookForBatches{500};
// A drive may come back: so many times the input of a batch is tried.
constexpr int kInputTries = 3;
// Of --batch-disk, what KV caches of requests that are under way may take.
constexpr uint64_t kShareOfStates = 4;
// The index of its requests, and what is read at once.
constexpr uint64_t kInputBytes = 4 << 20;

size_t longest_line(const ServerOptions& options) {
  constexpr size_t kAroundBody = 64 << 10;
  return std::min(kMaxBatchLineBytes, max_body_bytes(options) + kAroundBody);
}

BatchService service_of(std::shared_ptr<ServedModel> model, const ServerOptions& options, int32_t sessions) {
  ServerOptions server;
  server.model_id = options.model_id;
  server.chat_template = options.chat_template;
  server.max_body_bytes = max_body_bytes(options);
  server.response_store_bytes = 0;
  return {.model = std::move(model),
          .memory = std::make_shared<RequestMemory>(request_memory_bytes(options) +
                                                    static_cast<uint64_t>(sessions) * kBatchRequestBytes),
          .server = std::move(server),
          .patient = true};
}

BatchFault fault_of(const BatchLineError& error, size_t line) {
  return {.code = error.code, .message = error.message, .line = line};
}

BatchFault no_input_fault() {
  return {.code = "missing_input_file", .message = "the input file is not there any more"};
}

BatchFault bad_input_fault() {
  return {.code = "unreadable_input_file",
          .message = "the input file cannot be read any more: the drive of --batch-dir fails"};
}

const Json* member_of(const Json* json, const char* name) {
  if (json == nullptr || !json->is_object()) return nullptr;
  const auto found = json->find(name);
  return found == json->end() ? nullptr : &*found;
}

// Adds what a line of the answers says of its tokens, as completions say it or responses.
void add_usage(const Json& line, BatchUsage& usage) {
  const Json* told = member_of(member_of(member_of(&line, "response"), "body"), "usage");
  const auto number = [](const Json* json) -> uint64_t {
    return json != nullptr && json->is_number_integer() ? json->get<uint64_t>() : 0;
  };
  for (const char* name : {"prompt_tokens", "input_tokens"}) {
    usage.input_tokens += number(member_of(told, name));
  }
  for (const char* name : {"completion_tokens", "output_tokens"}) {
    usage.output_tokens += number(member_of(told, name));
  }
  for (const char* name : {"completion_tokens_details", "output_tokens_details"}) {
    usage.reasoning_tokens += number(member_of(member_of(told, name), "reasoning_tokens"));
  }
}

}  // namespace

uint64_t batch_worker_bytes(const ServerOptions& options, int32_t sessions) {
  const uint64_t requests =
      request_memory_bytes(options) + static_cast<uint64_t>(sessions) * kBatchRequestBytes;
  // Beside them the line that is read, as it came and without what is around it, its values, and lists of
  // files and batches on their way to clients, as values and as text.
  constexpr uint64_t kPerByteOfList = 4;
  return requests + request_memory_bytes(options) + 2 * longest_line(options) + kInputBytes +
         2 * kMaxBatchRecordBytes + options.max_connections * kPerByteOfList * kMaxListBytes;
}

BatchWorker::BatchWorker(std::shared_ptr<BatchStore> store, std::shared_ptr<ServedModel> model,
                         const ServerOptions& server, const BatchWorkerOptions& options)
    : store_(std::move(store)),
      service_(service_of(std::move(model), server, options.sessions)),
      options_(options),
      line_memory_(std::make_shared<RequestMemory>(request_memory_bytes(server))),
      max_line_bytes_(longest_line(server)),
      thread_([this] { run(); }) {}

BatchWorker::~BatchWorker() { stop(); }

void BatchWorker::stop() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    // Whoever cancels what is under way from now on does so for the end of the process.
    if (journal_ != nullptr) journal_->interrupted();
  }
  stopping_changed_.notify_all();
  store_->wake();
}

bool BatchWorker::is_stopping() const {
  const MutexLock lock(mutex_);
  return stopping_;
}

void BatchWorker::run() {
  while (!is_stopping()) {
    auto record = store_->next(kLookForBatches);
    if (!record) continue;
    const std::string id = record->id;
    Status status = go_on(*record);
    if (!status.has_value() && status.error().kind == ErrorKind::kIo) {
      // What could not be read may be the batch's own file.
      const auto now = store_->find(id, record->owner);
      if (now && is_input_lost(*now)) status = end_without_input(*now);
    }
    if (status.has_value() || status.error().kind == ErrorKind::kInterrupted) continue;
    log_event(spdlog::level::err, "batch_pauses", {{"batch", id}, {"why", status.error().message}});
    const auto end = std::chrono::steady_clock::now() + options_.pause_after_failure;
    const MutexLock lock(mutex_);
    while (!stopping_ && stopping_changed_.wait_until(mutex_, end)) {
    }
  }
}

// Something could not be read: whether that is the input, time after time.
bool BatchWorker::is_input_lost(const BatchRecord& record) {
  if (is_over(record.phase) || record.finalizing > 0) return false;
  const auto input = open_input(record, {}, {});
  const bool failed = !input.has_value() && input.error().kind == ErrorKind::kIo;
  const bool lost = failed && ++input_failures_[record.id] >= kInputTries;
  if (lost || !failed) input_failures_.erase(record.id);
  return lost;
}

// With what is there.
Status BatchWorker::end_without_input(const BatchRecord& record) {
  ODMOE_RETURN_IF_ERROR(recount(record));
  ODMOE_ASSIGN_OR_RETURN(const BatchRecord ending, finish_answering(record, Stopped::kBadInput));
  return finalize(ending);
}

// From where the batch is to its end, unless something stops it for now.
Status BatchWorker::go_on(BatchRecord record) {
  service_.owner = record.owner;
  if (record.phase == BatchPhase::kValidating) {
    ODMOE_ASSIGN_OR_RETURN(record, validate(record));
  }
  if (record.phase == BatchPhase::kInProgress) {
    ODMOE_ASSIGN_OR_RETURN(record, answer(record));
  }
  if (record.phase == BatchPhase::kCancelling && record.finalizing == 0) {
    ODMOE_RETURN_IF_ERROR(recount(record));
    ODMOE_ASSIGN_OR_RETURN(record, finish_answering(record, Stopped::kCancelled));
  }
  return is_over(record.phase) ? Status() : finalize(record);
}

BatchWorker::Stopped BatchWorker::look(const BatchRecord& record) const {
  if (is_stopping()) return Stopped::kForNow;
  if (store_->is_cancelling(record.id)) return Stopped::kCancelled;
  return store_->now() >= record.expires ? Stopped::kExpired : Stopped::kNot;
}

// `goes_on`: empty for as long as the server does.
Result<BatchInput> BatchWorker::open_input(
    const BatchRecord& record, std::function<bool()> goes_on,
    std::function<void(const BatchRequest& request, size_t place)> each) const {
  return BatchInput::open(
      store_->files().path_of(record.input_file),
      {.progress = [&](uint64_t, uint64_t) { return goes_on ? goes_on() : !is_stopping(); },
       .each = std::move(each),
       .max_requests = kMaxServedBatchRequests,
       .max_line_bytes = max_line_bytes_,
       .memory = line_memory_});
}

// The input of a batch that takes no answers any more, which ends without it as well; nothing where it cannot
// be read.
Result<std::optional<BatchInput>> BatchWorker::input_of_ended(const BatchRecord& record) const {
  auto input = open_input(record, {}, {});
  if (input.has_value()) return std::optional(*std::move(input));
  if (input.error().kind == ErrorKind::kInterrupted) return std::unexpected(input.error());
  log_event(spdlog::level::err, "batch_without_input",
            {{"batch", record.id}, {"why", input.error().message}});
  return std::nullopt;
}

Result<BatchOutput> BatchWorker::open_answers(const BatchRecord& record,
                                              const std::optional<BatchInput>& input) const {
  const auto path = store_->output_path(record.id);
  return input ? BatchOutput::open(path, *input, {}, store_->now())
               : BatchOutput::open_without_input(path, store_->now());
}

Result<BatchRecord> BatchWorker::fail_batch(const BatchRecord& record, std::vector<BatchFault> faults) {
  log_event(spdlog::level::info, "batch_failed", {{"batch", record.id}, {"why", faults.front().message}});
  return store_->update(record.id, [&](BatchRecord& batch) {
    batch.phase = BatchPhase::kFailed;
    batch.failed = store_->now();
    batch.faults = std::move(faults);
  });
}

// As with OpenAI, a file with a line that is not a request is refused as a whole.
Result<BatchRecord> BatchWorker::validate(const BatchRecord& record) {
  Stopped stopped = Stopped::kNot;
  std::vector<std::pair<size_t, BatchLineError>> wrong;  // by place
  const auto note = [&](size_t place, BatchLineError error) {
    if (wrong.size() < kMaxBatchErrors) wrong.emplace_back(place, std::move(error));
  };
  const auto input = open_input(
      record,
      [&] {
        stopped = look(record);
        // What had no turn in time is read all the same: each of its requests is told so.
        if (stopped == Stopped::kExpired) stopped = Stopped::kNot;
        return stopped == Stopped::kNot;
      },
      [&](const BatchRequest& request, size_t place) {
        if (!request.good.has_value()) {
          note(place, request.good.error());
        } else if (request.url != record.endpoint) {
          note(place, {.code = "mismatched_endpoint",
                       .message = odmoe::format("url must be {}, which the batch is for", record.endpoint)});
        }
      });
  if (stopped == Stopped::kForNow) return fail(ErrorKind::kInterrupted, "interrupted");
  if (stopped != Stopped::kNot) return finish_answering(record, stopped);
  if (!input.has_value()) {
    if (input.error().kind == ErrorKind::kIo) {
      if (look(record) == Stopped::kExpired) return finish_answering(record, Stopped::kExpired);
      return std::unexpected(input.error());
    }
    if (input.error().kind != ErrorKind::kUsage) return fail_batch(record, {no_input_fault()});
    return fail_batch(record, {{.code = "too_many_requests",
                                .message = odmoe::format("the file has more than {} requests: divide it",
                                                         kMaxServedBatchRequests)}});
  }
  for (size_t place = 0; place < input->size() && wrong.size() < kMaxBatchErrors; ++place) {
    if (input->is_duplicate(place)) {
      note(place,
           {.code = "duplicate_custom_id", .message = "a line before this one has the same custom_id"});
    }
  }
  if (input->size() == 0)
    return fail_batch(record, {{.code = "empty_file", .message = "the file has no requests"}});
  if (!wrong.empty()) {
    std::ranges::stable_sort(wrong, {}, [](const auto& fault) { return fault.first; });
    std::vector<BatchFault> faults;
    faults.reserve(wrong.size());
    for (const auto& [place, error] : wrong) faults.push_back(fault_of(error, input->line_number(place)));
    return fail_batch(record, std::move(faults));
  }
  return store_->update(record.id, [&](BatchRecord& batch) {
    batch.n_request = input->size();
    batch.in_progress = store_->now();
    if (batch.phase == BatchPhase::kValidating) batch.phase = BatchPhase::kInProgress;
  });
}

Result<BatchRecord> BatchWorker::answer(const BatchRecord& record) {
  log_event(spdlog::level::info, "batch_goes_on", {{"batch", record.id}, {"requests", record.n_request}});
  const int64_t turn_began = store_->now();
  Stopped stopped = look(record);
  std::optional<BatchInput> read;
  if (stopped == Stopped::kNot) {
    auto opened = open_input(record, {}, {});
    if (opened.has_value()) {
      read.emplace(*std::move(opened));
    } else if (opened.error().kind == ErrorKind::kNotFound || opened.error().kind == ErrorKind::kUsage) {
      stopped = Stopped::kNoInput;
    } else {
      return std::unexpected(opened.error());
    }
  }
  if (stopped == Stopped::kNot) {
    const BatchInput& input = *read;
    const BatchOptions options{.model_id = service_.server.model_id,
                               .chat_template = service_.server.chat_template};
    ODMOE_ASSIGN_OR_RETURN(const std::string identity,
                           batch_identity(*service_.model->engine, options, input));
    const auto path = store_->output_path(record.id);
    auto output = BatchOutput::open(path, input, identity, store_->now());
    if (!output.has_value() && output.error().kind == ErrorKind::kUsage) {
      // The server has another model now, or other options: the answers would not belong together.
      log_event(spdlog::level::warn, "batch_begins_anew", {{"batch", record.id}});
      store_->remove_output(record.id);
      output = BatchOutput::open(path, input, identity, store_->now());
    }
    if (!output.has_value()) return std::unexpected(output.error());
    ODMOE_ASSIGN_OR_RETURN(
        const auto journal,
        open_journal(*service_.model->engine, store_->disk_bytes() / kShareOfStates, options_.chunk, *output,
                     [files = &store_->files()](uint64_t bytes) { return files->has_room(bytes); }));
    store_->states().open(record.id, journal);
    {
      const MutexLock lock(mutex_);
      journal_ = journal;
    }
    // The files that the answers become are written beside them.
    const auto has_room = [&] {
      return store_->files().keep_room(record.id, 2 * output->bytes() + journal->line_bytes());
    };
    const auto counts = answer_batch(service_, input, *output, journal, [&](const BatchCounts& so_far) {
      store_->count(record.id, output->n_done() - output->n_failed(), output->n_failed());
      stopped = look(record);
      if (stopped == Stopped::kNot && !has_room()) stopped = Stopped::kFull;
      const bool has_gone_on = so_far.done > so_far.before || so_far.generated_tokens > 0;
      const bool turn_over = has_gone_on && store_->now() - turn_began >= kBatchTurnSeconds;
      if (stopped == Stopped::kNot && turn_over && store_->others_wait()) stopped = Stopped::kTurnOver;
      const bool goes_on_some_day = stopped == Stopped::kForNow || stopped == Stopped::kTurnOver;
      if (stopped != Stopped::kNot && !goes_on_some_day) journal->discard();
      return stopped == Stopped::kNot;
    });
    journal->wait_for_keepers();
    {
      const MutexLock lock(mutex_);
      journal_.reset();
    }
    store_->states().take(record.id, journal_path_of(path));
    store_->count(record.id, output->n_done() - output->n_failed(), output->n_failed());
    if (counts.has_value()) {
      stopped = Stopped::kNot;
    } else if (counts.error().kind != ErrorKind::kInterrupted || stopped == Stopped::kNot) {
      return std::unexpected(counts.error());
    }
    ODMOE_RETURN_IF_ERROR(output->sync());
  } else if (stopped != Stopped::kForNow) {
    ODMOE_RETURN_IF_ERROR(recount(record));
  }
  if (stopped == Stopped::kForNow || stopped == Stopped::kTurnOver) {
    return fail(ErrorKind::kInterrupted, "interrupted");
  }
  return finish_answering(record, stopped);
}

// What an earlier process answered of a batch that does not go on.
Status BatchWorker::recount(const BatchRecord& record) {
  const auto path = store_->output_path(record.id);
  std::error_code none;
  if (!std::filesystem::exists(path, none)) return {};
  ODMOE_ASSIGN_OR_RETURN(const std::optional<BatchInput> input, input_of_ended(record));
  const auto output = open_answers(record, input);
  if (!output.has_value() && output.error().kind == ErrorKind::kUsage) {
    log_event(spdlog::level::warn, "batch_answers_damaged",
              {{"batch", record.id}, {"why", output.error().message}});
    store_->remove_output(record.id);
    store_->count(record.id, 0, 0);
    return {};
  }
  if (!output.has_value()) return std::unexpected(output.error());
  store_->count(record.id, output->n_done() - output->n_failed(), output->n_failed());
  return {};
}

// What is answered is all that there will be.
Result<BatchRecord> BatchWorker::finish_answering(const BatchRecord& record, Stopped why) {
  return store_->update(record.id, [&](BatchRecord& batch) {
    const bool cancelled = why == Stopped::kCancelled || batch.phase == BatchPhase::kCancelling;
    const bool expired = why == Stopped::kExpired && !cancelled;
    batch.finalizing = store_->now();
    const bool failed = why == Stopped::kFull || why == Stopped::kNoInput || why == Stopped::kBadInput;
    batch.ending = cancelled ? BatchPhase::kCancelled
                   : expired ? BatchPhase::kExpired
                   : failed  ? BatchPhase::kFailed
                             : BatchPhase::kCompleted;
    if (!cancelled) batch.phase = BatchPhase::kFinalizing;
    if (batch.ending == BatchPhase::kFailed && why == Stopped::kNoInput) {
      batch.faults = {no_input_fault()};
    } else if (batch.ending == BatchPhase::kFailed && why == Stopped::kBadInput) {
      batch.faults = {bad_input_fault()};
    } else if (batch.ending == BatchPhase::kFailed) {
      batch.faults = {{.code = "batch_disk_full",
                       .message = "there is no room for more answers: delete files, or start the server with "
                                  "a larger --batch-disk, and ask what is missing in another batch"}};
    }
    const size_t done = batch.n_completed + batch.n_failed;
    const bool left = expired && done < batch.n_request;
    if (batch.n_completed > 0) batch.output_file = new_stored_id("file-");
    if (batch.n_failed > 0 || left) batch.error_file = new_stored_id("file-");
  });
}

Status BatchWorker::finalize(const BatchRecord& record) {
  BatchUsage usage;
  ODMOE_RETURN_IF_ERROR(write_files(record, usage));
  const auto ended = store_->update(record.id, [&](BatchRecord& batch) {
    const int64_t now = store_->now();
    batch.phase = batch.ending;
    batch.usage = usage;
    switch (batch.ending) {
      case BatchPhase::kCancelled:
        batch.cancelled = now;
        break;
      case BatchPhase::kExpired:
        batch.expired = now;
        break;
      case BatchPhase::kFailed:
        batch.failed = now;
        break;
      default:
        batch.completed = now;
    }
  });
  if (!ended.has_value()) return std::unexpected(ended.error());
  store_->remove_output(record.id);
  (void)store_->files().keep_room(record.id, 0);
  log_event(spdlog::level::info, "batch_ended",
            {{"batch", record.id},
             {"status", batch_phase_name(ended->phase)},
             {"completed", ended->n_completed},
             {"failed", ended->n_failed}});
  return {};
}

// What became of its requests, in two files that can be written again.
Status BatchWorker::write_files(const BatchRecord& record, BatchUsage& usage) {
  if (record.output_file.empty() && record.error_file.empty()) return {};
  FileStore& files = store_->files();
  const auto begin = [&](const std::string& id, std::optional<FileStore::Upload>& upload) -> Status {
    if (id.empty()) return {};
    auto begun = files.begin_output(id);
    if (!begun.has_value()) return fail(ErrorKind::kIo, "{}", begun.error().message);
    upload.emplace(*std::move(begun));
    return {};
  };
  std::optional<FileStore::Upload> output, errors;
  ODMOE_RETURN_IF_ERROR(begin(record.output_file, output));
  ODMOE_RETURN_IF_ERROR(begin(record.error_file, errors));
  const auto write = [&](std::string_view line, bool failed) -> Status {
    std::optional<FileStore::Upload>& upload = failed ? errors : output;
    if (is_stopping()) return fail(ErrorKind::kInterrupted, "interrupted");
    if (!upload) return {};
    const ApiStatus written = upload->write(std::string(line) + "\n");
    return written.has_value() ? Status() : fail(ErrorKind::kIo, "{}", written.error().message);
  };
  ODMOE_ASSIGN_OR_RETURN(const std::optional<BatchInput> input, input_of_ended(record));
  ODMOE_ASSIGN_OR_RETURN(const BatchOutput answers, open_answers(record, input));
  ODMOE_RETURN_IF_ERROR(answers.each_answer([&](std::string_view line) -> Status {
    RequestWork work(line_memory_, std::nullopt, nullptr, {});
    if (const auto json = parse_json(line, work); json.has_value()) add_usage(*json, usage);
    return write(line, is_failed_answer(line));
  }));
  if (record.ending == BatchPhase::kExpired && input) {
    for (size_t place = 0; place < input->size(); ++place) {
      if (answers.is_done(place)) continue;
      ODMOE_ASSIGN_OR_RETURN(const BatchRequest request, input->request(place));
      ODMOE_RETURN_IF_ERROR(write(
          unanswered_line(request, {.code = "batch_expired",
                                    .message = "This request could not be executed before the completion "
                                               "window expired."}),
          /*failed=*/true));
    }
  }
  for (const auto& [upload, kind] : {std::pair(&output, "output"), std::pair(&errors, "error")}) {
    if (!*upload) continue;
    const int64_t now = store_->now();
    const auto kept =
        (*upload)->finish({.owner = record.owner,
                           .name = odmoe::format("{}_{}.jsonl", record.id, kind),
                           .purpose = "batch_output",
                           .created = now,
                           .expires = record.output_seconds > 0 ? now + record.output_seconds : 0});
    if (!kept.has_value()) return fail(ErrorKind::kIo, "{}", kept.error().message);
  }
  return {};
}

}  // namespace odmoe::server
