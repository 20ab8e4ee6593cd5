// odmoe simulate: what the residency policies would have hit on a recorded trace.
#include "simulate/simulate.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/units.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/session_ranges.h"
#include "cli/simulation_report.h"
#include "odmoe/format.h"
#include "trace/trace_file.h"

namespace odmoe::cli {
namespace {

// Of gpt-oss (3 x 2880 x 2880 weights of MXFP4, 4.25 bits each), whose routing is recorded without sizes.
constexpr uint64_t kExpertBytes = 13'219'200;
constexpr std::array kPolicies = {PolicyKind::kForecast, PolicyKind::kLru, PolicyKind::kLayerLru,
                                  PolicyKind::kLfu, PolicyKind::kLfuAging};
constexpr size_t kMaxBudgets = 64;

struct SimulateOptions {
  std::string trace;
  std::vector<std::string> budgets = {"6.25%", "12.5%", "25%", "50%"};
  std::vector<std::string> policies = {"all"};
  std::vector<std::string> sessions;
  std::string expert_bytes;
  std::string json_file, csv_file;
  bool no_plot = false;
};

// Nothing stands for Belady's optimum.
Result<std::vector<std::optional<PolicyKind>>> parse_policies(const std::vector<std::string>& names) {
  std::vector<std::optional<PolicyKind>> chosen;
  const auto add = [&](std::optional<PolicyKind> kind) {
    if (!std::ranges::contains(chosen, kind)) chosen.push_back(kind);
  };
  for (const std::string& name : names) {
    bool known = name == "all" || name == "belady";
    std::string all;
    for (const PolicyKind kind : kPolicies) {
      all += std::string(policy_name(kind)) + ", ";
      if (name != "all" && name != policy_name(kind)) continue;
      known = true;
      add(kind);
    }
    if (!known)
      return fail(ErrorKind::kUsage, "there is no policy '{}'; there are {}belady and all", name, all);
  }
  add(std::nullopt);
  return chosen;
}

struct SimulatedBudget {
  double percent = 0;
  uint64_t bytes = 0;
  int64_t n_slot = 0;
};

Result<std::vector<SimulatedBudget>> parse_budgets(const SimulateOptions& options, const RoutingTrace& trace,
                                                   uint64_t expert_bytes) {
  if (options.budgets.size() > kMaxBudgets) {
    return fail(ErrorKind::kUsage, "{} budgets are more than {}", options.budgets.size(), kMaxBudgets);
  }
  const int64_t n_expert = int64_t{trace.n_layer} * trace.n_expert;
  const double all_bytes = static_cast<double>(n_expert) * static_cast<double>(expert_bytes);
  std::vector<SimulatedBudget> budgets;
  for (const std::string& text : options.budgets) {
    ODMOE_ASSIGN_OR_RETURN(const MemoryBudget parsed, parse_memory_budget(text));
    SimulatedBudget budget;
    if (parsed.kind == MemoryBudget::Kind::kExpertPercent) {
      budget.percent = parsed.percent;
      budget.n_slot = static_cast<int64_t>(std::floor(parsed.percent / 100 * static_cast<double>(n_expert)));
      budget.bytes = static_cast<uint64_t>(parsed.percent / 100 * all_bytes);
    } else if (parsed.kind == MemoryBudget::Kind::kBytes) {
      budget.bytes = parsed.bytes;
      budget.percent = static_cast<double>(parsed.bytes) / all_bytes * 100;
      budget.n_slot = static_cast<int64_t>(std::min<uint64_t>(parsed.bytes / expert_bytes, n_expert));
    } else {
      return fail(ErrorKind::kUsage, "a simulation has no budget 'auto'; write 25% or 2GiB");
    }
    if (budget.n_slot < trace.n_expert_used) {
      return fail(ErrorKind::kUsage,
                  "a budget of {} holds {} experts, and one token asks for {} in a layer; give at least {}",
                  text, budget.n_slot, trace.n_expert_used,
                  format_bytes(static_cast<uint64_t>(trace.n_expert_used) * expert_bytes));
    }
    budgets.push_back(budget);
  }
  return budgets;
}

int terminal_columns(const Output& output) {
  winsize size{};
  return ioctl(output.descriptor(), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

Result<int> run(const SimulateOptions& options) {
  TraceOptions trace_options;
  ODMOE_ASSIGN_OR_RETURN(trace_options.sessions, parse_sessions(options.sessions));
  ODMOE_ASSIGN_OR_RETURN(const auto policies, parse_policies(options.policies));
  std::optional<uint64_t> expert_bytes;
  if (!options.expert_bytes.empty()) {
    ODMOE_ASSIGN_OR_RETURN(expert_bytes, parse_bytes(options.expert_bytes));
    if (*expert_bytes == 0) return fail(ErrorKind::kUsage, "--expert-bytes 0: an expert has bytes");
  }
  // Better to fail now than after the work.
  std::optional<Output> json, csv;
  if (!options.json_file.empty()) {
    ODMOE_ASSIGN_OR_RETURN(Output file, Output::create(options.json_file));
    json.emplace(std::move(file));
  }
  if (!options.csv_file.empty()) {
    ODMOE_ASSIGN_OR_RETURN(Output file, Output::create(options.csv_file));
    csv.emplace(std::move(file));
  }

  std::error_code unknown;
  const auto file_bytes = static_cast<double>(std::filesystem::file_size(options.trace, unknown));
  Progress bar("Reading");
  trace_options.progress = [&](uint64_t bytes) {
    bar.update(file_bytes > 0 ? std::min(1.0, static_cast<double>(bytes) / file_bytes) : 0);
    return !interrupt::pending();
  };
  ODMOE_ASSIGN_OR_RETURN(const RoutingTrace trace, read_trace(options.trace, trace_options));
  bar.finish();
  if (!expert_bytes.has_value()) expert_bytes = trace.expert_bytes > 0 ? trace.expert_bytes : kExpertBytes;
  ODMOE_ASSIGN_OR_RETURN(const auto budgets, parse_budgets(options, trace, *expert_bytes));

  std::vector<SimulationCell> cells;
  const double n_cell = static_cast<double>(budgets.size() * policies.size());
  Progress work("Simulating");
  for (const SimulatedBudget& budget : budgets) {
    for (const auto& policy : policies) {
      const auto progress = [&](double fraction) {
        work.update((static_cast<double>(cells.size()) + fraction) / n_cell);
        return !interrupt::pending();
      };
      const auto result = policy.has_value() ? simulate(trace, *policy, budget.n_slot, progress)
                                             : simulate_belady(trace, budget.n_slot, progress);
      if (!result.has_value()) return std::unexpected(result.error());
      cells.push_back({.policy = std::string(policy.has_value() ? policy_name(*policy) : "belady"),
                       .is_default = policy == EngineOptions{}.policy,
                       .percent = budget.percent,
                       .budget_bytes = budget.bytes,
                       .n_slot = budget.n_slot,
                       .demands = result->demands,
                       .hits = result->hits});
    }
  }
  work.finish();
  if (json.has_value()) {
    ODMOE_RETURN_IF_ERROR(json->write(simulation_json(cells)));
    ODMOE_RETURN_IF_ERROR(json->close());
  }
  if (csv.has_value()) {
    ODMOE_RETURN_IF_ERROR(csv->write(simulation_csv(cells)));
    ODMOE_RETURN_IF_ERROR(csv->close());
  }
  Output output = Output::standard_output();
  (void)output.write(simulation_table(cells));
  if (output.is_terminal() && !options.no_plot) {
    (void)output.write("\n" + simulation_plot(cells, terminal_columns(output), true));
  }
  return output.exit_code();
}

}  // namespace

void add_simulate(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("simulate", "Show what the residency policies would hit on a recorded trace");
  const auto options = std::make_shared<SimulateOptions>();
  command
      ->add_option("TRACE", options->trace,
                   "Recorded routing: MOERT01 or CSV with named columns, plain or .xz (docs/residency.md)")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--budget", options->budgets,
                   "Memory for experts: shares of them (25%) or sizes (2GiB), with commas between")
      ->type_name("LIST")
      ->delimiter(',')
      ->default_str("6.25%,12.5%,25%,50%");
  command
      ->add_option("--policy", options->policies,
                   "forecast, lru, layer-lru, lfu, lfu-aging or all; Belady's optimum stands beside them")
      ->type_name("LIST")
      ->delimiter(',')
      ->default_str("all");
  command
      ->add_option("--sessions", options->sessions,
                   "Sessions that follow one another, the cache kept: 7, 0:100, 0:421:60 (first:end:step)")
      ->type_name("LIST")
      ->delimiter(',')
      ->default_str("all");
  command->add_option("--expert-bytes", options->expert_bytes, "Size of an expert, for budgets in bytes")
      ->type_name("SIZE")
      ->default_str(odmoe::format("what the trace says, else {}, as in gpt-oss", kExpertBytes));
  command->add_option("--json", options->json_file, "Write an array with an object per policy and budget")
      ->type_name("FILE");
  command->add_option("--csv", options->csv_file, "Write a line per policy and budget")->type_name("FILE");
  command->add_flag("--no-plot", options->no_plot, "On a terminal, show the table alone");
  command->footer(
      "Examples:\n"
      "  odmoe simulate qwen3-30b-a3b.route.csv\n"
      "  odmoe simulate gpt-oss-20b.trace.xz --sessions 0:421:60 --budget 25%,2GiB --json hits.json");
  command->callback([&action, options] { action = [options] { return run(*options); }; });
}

}  // namespace odmoe::cli
