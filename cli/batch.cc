// odmoe batch: the requests of a file, answered many at a time.
#include <algorithm>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/heap.h"
#include "base/memory_info.h"
#include "base/processors.h"
#include "base/units.h"
#include "cli/batch_plan.h"
#include "cli/batch_report.h"
#include "cli/chat_template_options.h"
#include "cli/command.h"
#include "cli/hit_rates.h"
#include "cli/inference_options.h"
#include "cli/interrupt.h"
#include "cli/kept_tuning.h"
#include "cli/machine_options.h"
#include "cli/model_name.h"
#include "cli/outlook.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "cli/report.h"
#include "cli/size_option.h"
#include "cli/speed_estimate.h"
#include "engine/drives.h"
#include "format/checkpoint.h"
#include "io/async_reader.h"
#include "odmoe/format.h"
#include "server/batch/batch_input.h"
#include "server/batch/batch_output.h"
#include "server/batch/batch_runner.h"

namespace odmoe::cli {
namespace {

constexpr size_t kMaxPlannedRequests = 1'000'000;
constexpr uint64_t kDefaultStateBytes = 16 * kGiB;

struct BatchCommand {
  InferenceOptions inference;
  server::BatchOptions batch;
  ChatTemplateOptions chat_template;
  std::string in, out;
  WantedWidth wanted;
  std::optional<uint64_t> prompt_cache_bytes;
  std::optional<int64_t> created;
  bool plan = false;
  std::string ram, memory_bandwidth, drive;  // of --plan; empty: this machine's
  SeveralMachines several;
  double prompt_speed = 0;
  size_t requests = 0;  // of --plan without IN
  int prompt_tokens = 1000, output_tokens = 256;
};

uint64_t prompt_cache_for(const MemoryBudget& budget) {
  constexpr uint64_t kShare = 16;
  return budget.kind == MemoryBudget::Kind::kBytes ? std::min(budget.bytes / kShare, kGiB) : 256 * kMiB;
}

// What the requests take of memory is a matter of what they are.
void take_account_of(const server::BatchInput& input, server::BatchOptions& options) {
  options.longest_bytes = input.longest_bytes();
  options.may_ask_for_grammars = input.may_ask_for_grammars();
}

Result<server::BatchInput> read_requests(const std::string& path) {
  Progress bar("Reading the requests");
  return server::BatchInput::open(path, {.progress = [&](uint64_t done, uint64_t total) {
                                    bar.update(
                                        static_cast<double>(done) / static_cast<double>(total),
                                        odmoe::format("{} of {}", format_bytes(done), format_bytes(total)));
                                    return !interrupt::pending();
                                  }});
}

Result<int> answer_all(const BatchCommand& command, const server::BatchInput& input, Engine& engine) {
  ODMOE_ASSIGN_OR_RETURN(std::string identity, server::batch_identity(engine, command.batch, input));
  // Chosen by hand, it decides about the answers as all else does.
  if (command.created) identity += odmoe::format("-{}", *command.created);
  ODMOE_ASSIGN_OR_RETURN(
      auto output,
      server::BatchOutput::open(command.out, input, identity, command.created.value_or(std::time(nullptr))));
  Progress bar("Answering");
  const BatchPace pace;
  ODMOE_ASSIGN_OR_RETURN(
      const server::BatchCounts counts,
      server::run_batch(engine, command.inference.engine, command.batch, input, output,
                        [&](const server::BatchCounts& so_far) {
                          bar.update(static_cast<double>(so_far.done) / static_cast<double>(so_far.total),
                                     pace.text(so_far));
                          return !interrupt::pending();
                        }));
  bar.finish();
  say(odmoe::format("{}: {}", command.out, pace.summary(counts)));
  return kExitOk;
}

// The machine that is described, or this one.
Result<Machine> planned_machine(const BatchCommand& command) {
  const EngineOptions& options = command.inference.engine;
  Machine machine;
  if (!command.ram.empty()) {
    ODMOE_ASSIGN_OR_RETURN(machine.ram_bytes, parse_bytes(command.ram));
  } else if (options.memory.kind == MemoryBudget::Kind::kBytes) {
    machine.ram_bytes = ram_for(options.memory.bytes);
  } else {
    machine.ram_bytes = available_bytes() + resident_bytes();
  }
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.model));
  if (!command.memory_bandwidth.empty()) {
    ODMOE_ASSIGN_OR_RETURN(machine.memory_bytes_per_second, parse_rate(command.memory_bandwidth));
  } else {
    const int threads = options.threads > 0 ? options.threads : usable_processors();
    ODMOE_ASSIGN_OR_RETURN(machine.memory_bytes_per_second,
                           measure_memory_bandwidth(threads, file->total_bytes()));
  }
  if (!command.drive.empty()) {
    ODMOE_ASSIGN_OR_RETURN(machine.drive_bytes_per_second, parse_rate(command.drive));
  } else {
    const DriveSetup setup{.drive_file = options.drive_file,
                           .reader = {.direct = true},
                           .make_reader = make_reader,
                           .least_bytes = UINT64_MAX};  // looked up, not tried out
    ODMOE_ASSIGN_OR_RETURN(const auto drive, know_drive({file->files().back()}, setup));
    if (!drive) {
      return fail(ErrorKind::kUsage,
                  "what the drive of {} brings is not known yet: give --drive, or run odmoe bench fetch",
                  options.model.string());
    }
    machine.drive_bytes_per_second = drive->profile.bytes_per_second;
  }
  ODMOE_RETURN_IF_ERROR(take_machines(command.several, machine));
  ODMOE_RETURN_IF_ERROR(machine.validate());
  return machine;
}

Result<int> show_batch_plan(BatchCommand command) {
  EngineOptions& options = command.inference.engine;
  ODMOE_ASSIGN_OR_RETURN(options.model, find_model(options.model.string()));
  ODMOE_ASSIGN_OR_RETURN(const Machine machine, planned_machine(command));
  std::vector<server::SimulatedRequest> requests(
      command.requests, {.prompt_tokens = command.prompt_tokens, .written_tokens = command.output_tokens});
  if (!command.in.empty()) {
    ODMOE_ASSIGN_OR_RETURN(const server::BatchInput input, read_requests(command.in));
    take_account_of(input, command.batch);
    ODMOE_ASSIGN_OR_RETURN(const ModelInfo model, Engine::inspect(options));
    ODMOE_ASSIGN_OR_RETURN(requests,
                           sizes_of(input, {.written_tokens = command.output_tokens}, model.context));
  }
  if (requests.empty()) {
    return fail(ErrorKind::kUsage,
                "--plan needs the file of the requests, or --requests, how many there are");
  }
  ODMOE_ASSIGN_OR_RETURN(const BatchPlan planned,
                         plan_batch(options, command.batch, machine, hit_rates_of_traces(),
                                    command.prompt_speed, requests, command.wanted));
  Output output = Output::standard_output();
  (void)output.write(batch_plan_text(planned));
  return output.exit_code();
}

Result<int> batch(BatchCommand command) {
  settle_heap();
  EngineOptions& engine_options = command.inference.engine;
  ODMOE_RETURN_IF_ERROR(engine_options.validate());
  command.batch.prompt_cache_bytes =
      command.prompt_cache_bytes.value_or(prompt_cache_for(engine_options.memory));
  if (command.plan) return show_batch_plan(std::move(command));
  if (command.in.empty())
    return fail(ErrorKind::kUsage, "name the file of the requests: odmoe batch MODEL IN");
  if (command.out.empty()) return fail(ErrorKind::kUsage, "name the file of the answers: --output OUT");
  ODMOE_ASSIGN_OR_RETURN(command.batch.chat_template, chosen_chat_template(command.chat_template));
  interrupt::install_terminate();
  // What can be refused is refused before the model is loaded.
  ODMOE_ASSIGN_OR_RETURN(const server::BatchInput input, read_requests(command.in));
  ODMOE_ASSIGN_OR_RETURN(const auto state, server::batch_state(command.out, input));
  if (state == server::BatchState::kComplete) {
    say(odmoe::format("{}: all {} requests of {} are answered already", command.out, input.size(),
                      command.in));
    return kExitOk;
  }
  if (command.batch.model_id.empty())
    command.batch.model_id = name_for_clients(engine_options.model.string());
  ODMOE_ASSIGN_OR_RETURN(engine_options.model, find_model(engine_options.model.string()));
  if (command.batch.model_id.empty()) command.batch.model_id = engine_options.model.stem().string();
  use_kept_tuning(command.inference);
  ODMOE_RETURN_IF_ERROR(settle_width(engine_options, command.batch, command.wanted, input.size()));
  ODMOE_ASSIGN_OR_RETURN(auto engine, ReportedEngine::open(command.inference));
  return engine.finish(answer_all(command, input, *engine));
}

}  // namespace

void add_batch(CLI::App& app, Action& action) {
  const auto options = std::make_shared<BatchCommand>();
  options->batch.state_bytes = kDefaultStateBytes;
  CLI::App* command = app.add_subcommand(
      "batch", "Answer the requests of a file, many at a time, and go on when interrupted");
  add_inference_options(*command, options->inference);
  command
      ->add_option("IN", options->in,
                   "The requests, a line of JSON each, as OpenAI's batch API has them: custom_id, method, "
                   "url (/v1/chat/completions, /v1/completions, /v1/responses), body")
      ->type_name("FILE");
  constexpr const char* kGroup = "Requests";
  command->add_option("-o,--output", options->out, "Where the answers go, a line each, in the order of IN")
      ->type_name("FILE")
      ->group(kGroup);
  command
      ->add_option("--width", options->wanted.width,
                   "Requests answered at once, each with a KV cache; no answer depends on it")
      ->type_name("N")
      ->default_str("as many as a quarter of the experts' memory holds; 16 where --memory is a share")
      ->check(CLI::Range(1, kMaxSessions).description(""))
      ->group(kGroup);
  command
      ->add_option("--prompts", options->wanted.prompts,
                   "Prompts of which a chunk is read at once, while others write; memory for activations "
                   "grows with it")
      ->type_name("N")
      ->default_str("4, fewer where they would take much of the experts' memory")
      ->check(CLI::Range(1, kMaxPrompts).description(""))
      ->group(kGroup);
  add_size(
      *command, "--prompt-cache",
      [options = options.get()](uint64_t bytes) { options->prompt_cache_bytes = bytes; },
      "Memory for the KV caches of beginnings that requests have in common, of the budget",
      "a sixteenth of the budget, at most 1GiB; 256MiB where that is not a size")
      ->group(kGroup);
  add_size(
      *command, "--state-disk",
      [options = options.get()](uint64_t bytes) { options->batch.state_bytes = bytes; },
      "Disk for the KV caches of requests that are under way when the batch is interrupted, beside OUT; 0: "
      "their tokens alone are kept, and read again",
      "16GiB")
      ->group(kGroup);
  command->add_option("--name", options->batch.model_id, "The model's name in the answers")
      ->type_name("NAME")
      ->default_str("the file's, without .gguf")
      ->group(kGroup);
  command
      ->add_option("--created", options->created,
                   "The time that answers and chat templates tell, in seconds of Unix")
      ->type_name("N")
      ->default_str("when the batch was begun")
      ->check(CLI::NonNegativeNumber.description(""))
      ->group(kGroup);
  add_chat_template_options(*command, options->chat_template, kGroup);
  constexpr const char* kPlan = "Plan";
  auto* plan = command
                   ->add_flag("--plan", options->plan,
                              "Show what to expect of the batch at several widths, and answer nothing")
                   ->group(kPlan);
  command->add_option("--ram", options->ram, "Of another machine: its memory (192GiB)")
      ->type_name("SIZE")
      ->default_str("this machine's, or --memory")
      ->needs(plan)
      ->group(kPlan);
  command->add_option("--memory-bandwidth", options->memory_bandwidth, "What its cores read (800GB/s)")
      ->type_name("RATE")
      ->default_str("this machine's, measured")
      ->needs(plan)
      ->group(kPlan);
  command->add_option("--drive", options->drive, "What its drive brings (6.5GB/s)")
      ->type_name("RATE")
      ->default_str("this machine's, as far as it is known")
      ->needs(plan)
      ->group(kPlan);
  for (CLI::Option* option : add_machines(*command, options->several, kPlan)) option->needs(plan);
  command
      ->add_option("--prompt-speed", options->prompt_speed,
                   "Prompt tokens a second that it computes with all experts in memory")
      ->type_name("N")
      ->default_str("twice what its memory allows single tokens")
      ->check(CLI::PositiveNumber.description(""))
      ->needs(plan)
      ->group(kPlan);
  command->add_option("--requests", options->requests, "Without IN: how many requests there are")
      ->type_name("N")
      ->check(CLI::Range(size_t{1}, kMaxPlannedRequests).description(""))
      ->needs(plan)
      ->group(kPlan);
  command->add_option("--prompt-tokens", options->prompt_tokens, "And how long their prompts are")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 24).description(""))
      ->needs(plan)
      ->group(kPlan);
  command
      ->add_option("--output-tokens", options->output_tokens,
                   "Tokens of an answer whose request does not say how many it may have")
      ->type_name("N")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 24).description(""))
      ->needs(plan)
      ->group(kPlan);
  command->footer(
      "The same command goes on after Ctrl-C, a kill or a full drive: OUT.progress and OUT.under-way, beside "
      "OUT,\n"
      "hold what it needs until OUT is complete.  Each answer is what the request would get alone, whatever "
      "the width, "
      "the\n"
      "budget and the interruptions (docs/batch.md).  A request that cannot be answered has an error in its "
      "line.\n"
      "\n"
      "Examples:\n"
      "  odmoe batch model.gguf requests.jsonl -o answers.jsonl\n"
      "  odmoe batch model.gguf requests.jsonl -o answers.jsonl --width 64 --context 8192 --memory 80GiB\n"
      "  until odmoe batch model.gguf requests.jsonl -o answers.jsonl; do sleep 60; done\n"
      "  odmoe batch model.gguf requests.jsonl --plan\n"
      "  odmoe batch model.gguf --plan --requests 10000 --ram 192GiB --memory-bandwidth 800GB/s --drive "
      "6.5GB/s --machines 4");
  command->callback([&action, options, command] {
    options->inference.given = given_settings(*command);
    const Action answer = [options] { return batch(*options); };
    action = options->plan ? answer : ranks::on_each(options->inference, answer);
  });
}

}  // namespace odmoe::cli
