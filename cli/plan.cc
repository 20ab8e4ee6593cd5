// odmoe plan: what to expect of a model on a machine that one does not have yet.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/units.h"
#include "cli/choice.h"
#include "cli/command.h"
#include "cli/hit_rates.h"
#include "cli/inference_options.h"
#include "cli/interrupt.h"
#include "cli/machine_options.h"
#include "cli/outlook.h"
#include "cli/output.h"
#include "cli/plan_report.h"
#include "cli/progress.h"
#include "cli/session_ranges.h"
#include "cli/speed_estimate.h"
#include "format/checkpoint.h"
#include "odmoe/engine.h"
#include "odmoe/format.h"
#include "trace/trace_file.h"

namespace odmoe::cli {
namespace {

constexpr size_t kMaxContexts = 8;
constexpr int32_t kContexts[] = {4096, 32768, 262144};

enum class Assumption { kTraces, kChance };

struct PlanOptions {
  EngineOptions engine;
  std::string ram, memory_bandwidth, drive;
  std::string overhead;
  SeveralMachines several;
  std::vector<std::string> contexts;
  std::string trace;
  std::vector<std::string> sessions;
  Assumption assumption = Assumption::kTraces;
  bool json = false;
  bool no_plot = false;
};

Result<Machine> parse_machine(const PlanOptions& options) {
  Machine machine;
  ODMOE_ASSIGN_OR_RETURN(machine.ram_bytes, parse_bytes(options.ram));
  ODMOE_ASSIGN_OR_RETURN(machine.memory_bytes_per_second, parse_rate(options.memory_bandwidth));
  ODMOE_ASSIGN_OR_RETURN(machine.drive_bytes_per_second, parse_rate(options.drive));
  if (!options.overhead.empty()) {
    ODMOE_ASSIGN_OR_RETURN(machine.overhead_seconds, parse_duration(options.overhead));
  }
  ODMOE_RETURN_IF_ERROR(take_machines(options.several, machine));
  ODMOE_RETURN_IF_ERROR(machine.validate());
  return machine;
}

Result<int32_t> parse_context(const std::string& text) {
  int32_t n = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, n);
  const bool thousands = rest != end && (*rest == 'K' || *rest == 'k') && rest + 1 == end;
  if (error != std::errc{} || (rest != end && !thousands) || n <= 0 || (thousands && n > INT32_MAX / 1024)) {
    return fail(ErrorKind::kUsage, "'{}' is not a context; write tokens, like 32768 or 32K", text);
  }
  return thousands ? n * 1024 : n;
}

// Those asked for; else the usual ones that the model was trained for.
Result<std::vector<int32_t>> parse_contexts(const PlanOptions& options, int32_t n_context_train) {
  std::vector<int32_t> contexts;
  if (options.contexts.size() > kMaxContexts)
    return fail(ErrorKind::kUsage, "{} contexts are more than {}", options.contexts.size(), kMaxContexts);
  for (const std::string& text : options.contexts) {
    ODMOE_ASSIGN_OR_RETURN(const int32_t context, parse_context(text));
    contexts.push_back(context);
  }
  if (!contexts.empty()) return contexts;
  for (const int32_t context : kContexts) {
    if (context <= n_context_train) contexts.push_back(context);
  }
  if (contexts.empty()) contexts.push_back(n_context_train > 0 ? n_context_train : kContexts[0]);
  return contexts;
}

struct Hits {
  HitSource source;
  HitRates rates;
};

Result<Hits> hits_of_trace(const PlanOptions& options, const ModelInfo& model) {
  TraceOptions trace_options;
  ODMOE_ASSIGN_OR_RETURN(trace_options.sessions, parse_sessions(options.sessions));
  std::error_code unknown;
  const auto file_bytes = static_cast<double>(std::filesystem::file_size(options.trace, unknown));
  Progress reading("Reading");
  trace_options.progress = [&](uint64_t bytes) {
    reading.update(file_bytes > 0 ? std::min(1.0, static_cast<double>(bytes) / file_bytes) : 0);
    return !interrupt::pending();
  };
  ODMOE_ASSIGN_OR_RETURN(const RoutingTrace trace, read_trace(options.trace, trace_options));
  reading.finish();
  Progress simulating("Simulating");
  ODMOE_ASSIGN_OR_RETURN(TraceHits hits, hit_rates_of(trace, [&](double fraction) {
                           simulating.update(fraction);
                           return !interrupt::pending();
                         }));
  simulating.finish();
  return Hits{
      .source = {.kind = HitSource::Kind::kTrace,
                 .trace = std::filesystem::path(options.trace).filename().string(),
                 .shape = odmoe::format("{} layers of {} experts, {} of them for a token", trace.n_layer,
                                        trace.n_expert, trace.n_expert_used),
                 .same_shape = trace.n_layer == model.n_expert_layer && trace.n_expert == model.n_expert &&
                               trace.n_expert_used == model.n_expert_used,
                 .first_uses = hits.first_uses},
      .rates = std::move(hits.rates)};
}

Result<Hits> known_hits(const PlanOptions& options, const ModelInfo& model) {
  if (!options.trace.empty()) return hits_of_trace(options, model);
  if (options.assumption == Assumption::kChance)
    return Hits{.source = {.kind = HitSource::Kind::kChance}, .rates = hit_rates_of_chance()};
  return Hits{.source = {.kind = HitSource::Kind::kTraces}, .rates = hit_rates_of_traces()};
}

Result<PlannedContext> plan_context(EngineOptions options, int32_t context, const PlanReport& report,
                                    const SpeedInputs& of_token, const HitRates& rates) {
  const Machine& machine = report.machine;
  options.context = context;
  PlannedContext planned{.context = context};
  options.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = 100};
  ODMOE_ASSIGN_OR_RETURN(planned.model.whole, Engine::memory_plan(options));
  planned.model.speed = of_token;
  planned.model.speed.state_read_bytes = report.model.kv_bytes_per_token * static_cast<uint64_t>(context);
  planned.model.n_expert_layer = report.model.n_expert_layer;
  planned.model.n_expert_used = report.model.n_expert_used;
  planned.model.n_embd = report.model.n_embd;
  planned.over_memory = over_memory(planned.model, machine, rates);
  planned.outlook = look_out(planned.model, machine, rates);
  if (planned.outlook) {
    options.memory = {
        .kind = MemoryBudget::Kind::kBytes, .bytes = budget_of(machine.ram_bytes), .percent = 0};
    ODMOE_ASSIGN_OR_RETURN(planned.plan, Engine::memory_plan(options));
  }
  return planned;
}

Status check_fits(const PlanReport& report) {
  const auto fits = [](const PlannedContext& at) { return at.plan.has_value(); };
  if (std::ranges::any_of(report.contexts, fits)) return {};
  const PlannedContext& least = *std::ranges::min_element(
      report.contexts, {}, [](const PlannedContext& at) { return at.model.whole.minimum_bytes; });
  const MemoryPlan& plan = least.model.whole;
  return fail(
      ErrorKind::kBudget,
      "--ram {} leaves {} for odmoe, and {} needs at least {} with a context of {} ({} dense weights, "
      "{} KV cache, {} buffers, the rest experts): it takes --ram {}MiB or more",
      format_bytes(report.machine.ram_bytes), format_bytes(budget_of(report.machine.ram_bytes)), report.file,
      format_bytes(plan.minimum_bytes), context_text(least.context), format_bytes(plan.dense_bytes),
      format_bytes(plan.kv_bytes), format_bytes(plan.buffer_bytes),
      (ram_for(plan.minimum_bytes) + kMiB - 1) / kMiB);
}

Result<int> plan(PlanOptions options) {
  PlanReport report;
  ODMOE_ASSIGN_OR_RETURN(report.machine, parse_machine(options));
  ODMOE_RETURN_IF_ERROR(options.engine.validate());
  ODMOE_ASSIGN_OR_RETURN(report.model, Engine::inspect(options.engine));
  report.file = options.engine.model.filename().string();
  ODMOE_ASSIGN_OR_RETURN(const auto contexts, parse_contexts(options, report.model.n_context_train));
  ODMOE_ASSIGN_OR_RETURN(const Hits hits, known_hits(options, report.model));
  report.hits = hits.source;
  ODMOE_ASSIGN_OR_RETURN(const auto file, open_checkpoint(options.engine.model));
  const SpeedInputs of_token = bytes_of_a_token(report.model, *file);
  for (const int32_t context : contexts) {
    ODMOE_ASSIGN_OR_RETURN(PlannedContext planned,
                           plan_context(options.engine, context, report, of_token, hits.rates));
    report.contexts.push_back(std::move(planned));
  }
  ODMOE_RETURN_IF_ERROR(check_fits(report));
  Output output = Output::standard_output();
  (void)output.write(options.json ? plan_json(report)
                                  : plan_table(report) + (options.no_plot ? "" : plan_charts(report)));
  return output.exit_code();
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  const auto options = std::make_shared<PlanOptions>();
  CLI::App* command =
      app.add_subcommand("plan", "Show what to expect of a model on a machine that one does not have yet");
  add_model(*command, options->engine);
  command->add_option("--ram", options->ram, "Memory of the machine, all of it (192GiB)")
      ->type_name("SIZE")
      ->required()
      ->group("Machine");
  command
      ->add_option("--memory-bandwidth", options->memory_bandwidth,
                   "What all its cores together read from memory (800GB/s); odmoe inspect measures a "
                   "machine's own")
      ->type_name("RATE")
      ->required()
      ->group("Machine");
  command
      ->add_option("--drive", options->drive,
                   "What its drive brings in large reads at random places (6.5GB/s); odmoe bench fetch "
                   "measures a drive")
      ->type_name("RATE")
      ->required()
      ->group("Machine");
  command
      ->add_option(
          "--overhead", options->overhead,
          "What a token takes beside reading memory and drive (8.5ms): launches of a GPU and waits for it "
          "(docs/performance.md)")
      ->type_name("TIME")
      ->default_str("0ms")
      ->group("Machine");
  add_machines(*command, options->several, "Machine");
  command
      ->add_option("-c,--context", options->contexts,
                   "Tokens that the KV cache holds, with commas between several (4096,32K)")
      ->type_name("LIST")
      ->delimiter(',')
      ->default_str("4K,32K,256K, as far as the model was trained for them")
      ->group("Memory");
  add_size_options(*command, options->engine);
  CLI::Option* trace =
      command
          ->add_option("--trace", options->trace,
                       "Recorded routing, this model's at best, that hit rates are simulated on: as odmoe "
                       "simulate reads it")
          ->type_name("FILE")
          ->group("Hit rates");
  command
      ->add_option("--sessions", options->sessions,
                   "Sessions of the trace that follow one another: 7, 0:100, 0:421:60 (first:end:step)")
      ->type_name("LIST")
      ->delimiter(',')
      ->default_str("all")
      ->needs(trace)
      ->group("Hit rates");
  add_choice<Assumption>(
      *command, "--assume", options->assumption,
      {{"traces", Assumption::kTraces}, {"chance", Assumption::kChance}},
      "Hit rates without a trace: the mean of three traces of other models, or those of routing by chance, "
      "below which no router is",
      [options = options.get()](Assumption assumption) { options->assumption = assumption; })
      ->excludes(trace)
      ->group("Hit rates");
  command->add_flag("--json", options->json, "For programs; sizes in bytes")->group("Report");
  command->add_flag("--no-plot", options->no_plot, "The table without charts over memory")->group("Report");
  command->footer(
      "No weights are read: a file of the right length with nothing but its header in it will do\n"
      "(docs/planning.md).  Rates are GB/s (powers of 1000) or GiB/s (of 1024).  Tokens a second are what\n"
      "reading alone would allow; computing may take longer.  Buffers are those of the threads here.\n"
      "\n"
      "Examples:\n"
      "  odmoe plan model.gguf --ram 192GiB --memory-bandwidth 800GB/s --drive 6.5GB/s\n"
      "  odmoe plan model.gguf --ram 64GiB --memory-bandwidth 90GB/s --drive 7GB/s --context 32K\n"
      "  odmoe plan model.gguf --ram 64GiB --memory-bandwidth 90GB/s --drive 7GB/s --trace routing.csv\n"
      "  odmoe plan model.gguf --ram 96GiB --memory-bandwidth 400GB/s --drive 6GB/s --machines 4\n"
      "  odmoe plan model.gguf --ram 1TiB --memory-bandwidth 400GB/s --drive 12GB/s --json | jq .contexts");
  command->callback([&action, options] { action = [options] { return plan(*options); }; });
}

}  // namespace odmoe::cli
