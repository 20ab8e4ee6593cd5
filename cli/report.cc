#include "cli/report.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/units.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/ranks.h"
#include "odmoe/format.h"

namespace odmoe::cli {

std::string table(const std::vector<std::pair<std::string, std::string>>& rows, Align align) {
  size_t left = 0, right = 0;
  for (const auto& [name, value] : rows) {
    left = std::max(left, name.size());
    right = std::max(right, value.size());
  }
  std::string text;
  for (const auto& [name, value] : rows) {
    text += odmoe::format("  {:<{}}  {:>{}}\n", name, left, value, align == Align::kRight ? right : 0);
  }
  return text;
}

// Empty where the dense part is in the host's memory.
std::string device_text(const MemoryPlan::Device& device) {
  if (device.name.empty()) return {};
  std::vector<std::pair<std::string, std::string>> rows{{"dense weights", format_bytes(device.dense_bytes)},
                                                        {"KV cache", format_bytes(device.kv_bytes)},
                                                        {"buffers", format_bytes(device.buffer_bytes)}};
  if (device.arena_bytes > 0) {
    rows.emplace_back(odmoe::format("experts, {}", device.n_slot), format_bytes(device.arena_bytes));
  }
  return odmoe::format("of {}'s own memory, {} of at least {}{}{}\n", device.name,
                       format_bytes(device.bytes()), format_bytes(device.minimum_bytes),
                       device.available_bytes > 0
                           ? odmoe::format(", {} may be taken", format_bytes(device.available_bytes))
                           : "",
                       device.shares_host_memory ? ", counted in --memory" : "") +
         table(rows);
}

std::string plan_text(const MemoryPlan& plan) {
  const double share =
      plan.n_expert_total > 0 ? 100.0 * plan.n_slot / static_cast<double>(plan.n_expert_total) : 0.0;
  std::vector<std::pair<std::string, std::string>> rows{{"dense weights", format_bytes(plan.dense_bytes)},
                                                        {"KV cache", format_bytes(plan.kv_bytes)},
                                                        {"buffers", format_bytes(plan.buffer_bytes)}};
  if (plan.reserved_bytes > 0) rows.emplace_back("requests, prompts kept", format_bytes(plan.reserved_bytes));
  rows.emplace_back(odmoe::format("experts, {} of {} ({:.0f} %)", plan.n_slot, plan.n_expert_total, share),
                    format_bytes(plan.arena_bytes));
  return odmoe::format("memory plan, {} of at least {}\n", format_bytes(plan.budget_bytes),
                       format_bytes(plan.minimum_bytes)) +
         table(rows) + device_text(plan.device);
}

// Of experts in a device's own memory.
std::string device_experts_text(const Stats& stats) {
  if (stats.memory.device.arena_bytes == 0) return {};
  const Stats::DeviceExperts& experts = stats.device_experts;
  return odmoe::format(
      "{} of {} experts that were wanted were on {}, which has {} now; {} were copied there from the host, "
      "{} made room, of which {} were still on the host\n",
      experts.hits, experts.hits + experts.copies, stats.memory.device.name, experts.resident,
      format_bytes(experts.copied_bytes), experts.evictions, experts.evicted_to_host);
}

// Of a device, by layer of experts.
std::string layer_exchange_text(const Stats& stats) {
  if (stats.decode.layers == 0) return {};
  const DeviceTraffic& traffic = stats.decode.device_layers;
  const auto each = [&](uint64_t n) {
    return static_cast<double>(n) / static_cast<double>(stats.decode.layers);
  };
  return odmoe::format(
      "of that for each layer of experts {:.1f} graphs, {} there and {} back: {:.0f} us to exchange them, "
      "{:.0f} us to launch, {:.0f} us to wait\n",
      each(traffic.graphs), format_bytes(static_cast<uint64_t>(each(traffic.sent_bytes))),
      format_bytes(static_cast<uint64_t>(each(traffic.fetched_bytes))), each(traffic.exchange_us),
      each(traffic.launch_us), each(traffic.wait_us));
}

// Of a device, by pass through the model that wrote a token.
std::string exchange_text(const Stats& stats) {
  if (stats.memory.device.name.empty() || stats.decode.steps == 0) return {};
  const auto each = [&](uint64_t n) {
    return static_cast<double>(n) / static_cast<double>(stats.decode.steps);
  };
  return odmoe::format(
             "for each step {} got {:.0f} operations in {:.0f} graphs and {} from the host, gave back {}, "
             "and was "
             "waited for {:.0f} times\n",
             stats.memory.device.name, each(stats.decode.device.operations), each(stats.decode.device.graphs),
             format_bytes(static_cast<uint64_t>(each(stats.decode.device.sent_bytes))),
             format_bytes(static_cast<uint64_t>(each(stats.decode.device.fetched_bytes))),
             each(stats.decode.device.waits)) +
         layer_exchange_text(stats) + device_experts_text(stats);
}

std::string work_text(const Stats& stats) {
  return odmoe::format(
             "{} prompt tokens at {:.1f}/s, {} tokens at {:.1f}/s; {:.1f} % of {} experts were in memory, {} "
             "read "
             "by {} "
             "at {}/s; at most {} resident{}\n",
             stats.prefill.tokens, stats.prefill.tokens_per_second(), stats.decode.tokens,
             stats.decode.tokens_per_second(), 100 * stats.experts.hit_rate(), stats.experts.demands,
             format_bytes(stats.io.total_read_bytes()), stats.io.reader,
             format_bytes(static_cast<uint64_t>(stats.io.read_bytes_per_second())),
             format_bytes(stats.peak_resident_bytes),
             stats.arena_resizes > 0 ? odmoe::format("; the arena of experts changed {} times, to {}",
                                                     stats.arena_resizes, format_bytes(stats.arena_bytes_now))
                                     : "") +
         exchange_text(stats);
}

Result<ReportedEngine> ReportedEngine::open(const InferenceOptions& options) {
  std::optional<Output> stats;
  if (options.stats_file == "-") {
    stats.emplace(Output::standard_error());
  } else if (!options.stats_file.empty()) {
    ODMOE_ASSIGN_OR_RETURN(Output file, Output::create(options.stats_file));
    stats.emplace(std::move(file));
  }
  Progress bar("Reading the dense weights");
  ODMOE_ASSIGN_OR_RETURN(auto engine, ranks::open(options.engine, [&](uint64_t done, uint64_t total) {
                           bar.update(total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1,
                                      odmoe::format("{} of {}", format_bytes(done), format_bytes(total)));
                           return !interrupt::pending();
                         }));
  bar.finish();
  if (options.engine.context > engine->model().n_context_train) {
    spdlog::warn(
        "the context of {} tokens is longer than the {} that the model was trained for; what it writes "
        "beyond them "
        "will be poor",
        options.engine.context, engine->model().n_context_train);
  }
  if (options.verbose) {
    const std::string device = engine->device_choice();
    (void)Output::standard_error().write(plan_text(engine->plan()) + (device.empty() ? "" : device + "\n") +
                                         ranks::description());
  }
  return ReportedEngine(std::move(engine), std::move(stats), options.verbose);
}

Result<int> ReportedEngine::finish(Result<int> outcome) {
  const Stats stats = engine_->stats();
  if (verbose_) (void)Output::standard_error().write(work_text(stats));
  if (!stats_) return outcome;
  Status written = stats_->write(stats_json(stats));
  if (written.has_value()) written = stats_->close();
  if (outcome.has_value() && !written.has_value()) return std::unexpected(written.error());
  return outcome;
}

}  // namespace odmoe::cli
