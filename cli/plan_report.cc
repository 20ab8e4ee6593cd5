#include "cli/plan_report.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/units.h"
#include "cli/plot.h"
#include "cli/report.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

constexpr int kChartColumns = 32;

// Three digits, whatever the size: never 1.3e+03, nor 0 where it is little.
std::string speed_digits(double v) {
  if (v >= 100) return odmoe::format("{:.0f}", v);
  if (v >= 10) return odmoe::format("{:.1f}", v);
  return odmoe::format("{:.2f}", v);
}

std::string expected(const Speed& speed) {
  const std::string low = speed_digits(speed.one_after_the_other());
  const std::string high = speed_digits(speed.overlapped());
  return low == high ? low : low + " to " + high;
}

bool waits_for_drive(const Speed& speed) { return speed.drive && *speed.drive < speed.memory; }

std::string plan_percent(double share) {
  // All of them is said of all of them only.
  if (share < 1 && share >= .9995) return "99.9 %";
  return odmoe::format("{:.1f} %", share * 100);
}

std::string hits_text(const HitSource& hits) {
  switch (hits.kind) {
    case HitSource::Kind::kTrace:
      return odmoe::format(
          "Hit rates are recorded: the default policy, simulated on {}\n"
          "({}{}), with nothing in memory at first.\n"
          "{} of what it wants it wants for the first time: that counts as missed.\n",
          hits.trace, hits.shape,
          hits.same_shape ? "" : "; not this model's shape, so by share of the experts",
          plan_percent(hits.first_uses));
    case HitSource::Kind::kTraces:
      return "Hit rates are ASSUMED, not recorded: the mean of three traces of other models\n"
             "(docs/residency.md); a model and its text differ from that by .1 and more.  odmoe collect\n"
             "--routing-only records a model's own, for --trace.\n";
    case HitSource::Kind::kChance:
      return "Hit rates are ASSUMED, not recorded: every expert as likely as any other, which is a bound\n"
             "that real routers stay above.\n";
  }
  return {};
}

std::string machine_table(const Machine& machine) {
  std::vector<std::pair<std::string, std::string>> rows{
      {"RAM", odmoe::format("{}, {} for odmoe: as --memory auto, nothing else running",
                            format_bytes(machine.ram_bytes), format_bytes(budget_of(machine.ram_bytes)))},
      {"memory bandwidth", format_rate(machine.memory_bytes_per_second)},
      {"drive", format_rate(machine.drive_bytes_per_second)}};
  if (machine.overhead_seconds > 0) {
    rows.emplace_back("beside reading",
                      odmoe::format("{:.1f} ms for a token", machine.overhead_seconds * 1e3));
  }
  if (machine.machines > 1) {
    rows.emplace_back("machines",
                      odmoe::format("{}, each with an equal share of the experts", machine.machines));
    rows.emplace_back("network", odmoe::format("{}, {:.0f} us", format_rate(machine.network_bytes_per_second),
                                               machine.latency_seconds * 1e6));
  }
  return table(rows, Align::kLeft);
}

std::string_view hits_name(HitSource::Kind kind) {
  switch (kind) {
    case HitSource::Kind::kTrace:
      return "trace";
    case HitSource::Kind::kTraces:
      return "assumed: traces of other models";
    case HitSource::Kind::kChance:
      return "assumed: chance";
  }
  return {};
}

// A line of a quantity for every context.
std::string row(const PlanReport& report, std::string_view name,
                const std::function<std::string(const PlannedContext&)>& cell) {
  std::string text = odmoe::format("  {:<27}", name);
  for (const PlannedContext& context : report.contexts) text += odmoe::format(" {:>15}", cell(context));
  return text + "\n";
}

nlohmann::ordered_json outlook_json(const Outlook& outlook) {
  const Speed& speed = outlook.speed;
  return {{"ram_bytes", outlook.ram_bytes},
          {"expert_share", outlook.share},
          {"hit_rate", outlook.hit_rate},
          {"memory_tokens_per_second", speed.memory},
          {"drive_tokens_per_second", speed.drive ? nlohmann::ordered_json(*speed.drive) : nullptr},
          {"tokens_per_second",
           {{"one_after_the_other", speed.one_after_the_other()}, {"overlapped", speed.overlapped()}}},
          {"network_seconds", outlook.network_seconds},
          {"network_bytes", outlook.network_bytes},
          {"waits_for", waits_for_drive(speed) ? "drive" : "memory"}};
}

}  // namespace

std::string context_text(int32_t context) {
  return context > 0 && context % 1024 == 0 ? odmoe::format("{}K", context / 1024) : std::to_string(context);
}

std::string plan_table(const PlanReport& report) {
  const Machine& machine = report.machine;
  std::string text =
      "machine\n" + machine_table(machine) + "model\n" +
      table(
          {{"file", report.file},
           {"architecture", report.model.architecture},
           {"experts", odmoe::format("{}, of which a token uses {}", format_bytes(report.model.expert_bytes),
                                     format_bytes(report.model.cycle_bytes))}},
          Align::kLeft) +
      "plan\n";
  const auto of_plan = [](const std::function<std::string(const MemoryPlan&)>& cell) {
    return [cell](const PlannedContext& at) { return at.plan ? cell(*at.plan) : "-"; };
  };
  const auto of_outlook = [](const std::function<std::string(const Outlook&)>& cell) {
    return [cell](const PlannedContext& at) { return at.outlook ? cell(*at.outlook) : "-"; };
  };
  text += row(report, "context", [](const auto& at) { return context_text(at.context); });
  text +=
      row(report, "dense weights", [](const auto& at) { return format_bytes(at.model.whole.dense_bytes); });
  text +=
      row(report, "KV cache, states", [](const auto& at) { return format_bytes(at.model.whole.kv_bytes); });
  text += row(report, "buffers", [](const auto& at) { return format_bytes(at.model.whole.buffer_bytes); });
  if (machine.machines > 1) {
    text += row(report, "experts in all memories", [](const auto& at) {
      const auto bytes =
          static_cast<double>(at.model.whole.arena_bytes) * (at.outlook ? at.outlook->share : 0);
      return at.outlook ? format_bytes(static_cast<uint64_t>(bytes)) : std::string("does not fit");
    });
  } else {
    text += row(report, "experts in memory", [](const auto& at) {
      return at.plan ? format_bytes(at.plan->arena_bytes) : std::string("does not fit");
    });
    text += row(report, "  slots", of_plan([](const MemoryPlan& plan) {
                  return odmoe::format("{} of {}", plan.n_slot, plan.n_expert_total);
                }));
  }
  text +=
      row(report, "  of all experts", of_outlook([](const Outlook& at) { return plan_percent(at.share); }));
  text += row(report, report.hits.is_assumed() ? "hit rate, ASSUMED" : "hit rate",
              of_outlook([](const Outlook& at) { return plan_percent(at.hit_rate); }));
  text += row(report, "memory allows, tokens/s",
              of_outlook([](const Outlook& at) { return speed_digits(at.speed.memory); }));
  text += row(report, "drive allows, tokens/s", of_outlook([](const Outlook& at) {
                return at.speed.drive ? speed_digits(*at.speed.drive) : "not needed";
              }));
  if (machine.machines > 1) {
    text +=
        row(report, "network, ms for a token",
            of_outlook([](const Outlook& at) { return odmoe::format("{:.1f}", at.network_seconds * 1000); }));
  }
  text += row(report, machine.machines > 1 ? "all, tokens/s" : "both, tokens/s",
              of_outlook([](const Outlook& at) { return expected(at.speed); }));
  text += row(report, "RAM that will do",
              [](const auto& at) { return format_bytes(ram_for(at.model.whole.minimum_bytes)); });
  text += row(report, "RAM for all experts",
              [&](const auto& at) { return format_bytes(ram_for_all(at.model, machine.machines)); });
  text += hits_text(report.hits);
  text +=
      "Tokens per second are what reading alone allows one session with a full context: from the first\n"
      "figure, where drive and memory wait for each other, to the second, where they do not. Computing\n"
      "makes it slower (docs/planning.md has what was measured).\n";
  if (machine.machines > 1) {
    text +=
        "Each layer waits for the machine that has most of its experts, as chance divides them, and for a\n"
        "message there and back, beside which nothing else is taken to go on.\n";
  }
  for (const PlannedContext& at : report.contexts) {
    if (at.context > report.model.n_context_train) {
      text += odmoe::format("The model was trained for {} tokens: texts of {} get worse.\n",
                            report.model.n_context_train, context_text(at.context));
    }
  }
  return text;
}

std::string plan_charts(const PlanReport& report) {
  std::string text;
  for (const PlannedContext& at : report.contexts) {
    if (at.over_memory.empty()) continue;
    text += odmoe::format("tokens/s over RAM, context {}{}\n", context_text(at.context),
                          report.hits.is_assumed() ? ", hit rates ASSUMED" : "");
    std::vector<Bar> bars;
    for (const Outlook& outlook : at.over_memory) {
      bars.push_back({.label = format_bytes(outlook.ram_bytes),
                      .value = outlook.speed.one_after_the_other(),
                      .note = odmoe::format("{}, {} of the experts, waits for {}{}", expected(outlook.speed),
                                            plan_percent(outlook.share),
                                            waits_for_drive(outlook.speed) ? "drive" : "memory",
                                            outlook.ram_bytes == report.machine.ram_bytes ? " <" : "")});
    }
    text += bar_chart(bars, kChartColumns);
  }
  return text;
}

std::string plan_json(const PlanReport& report) {
  const Machine& machine = report.machine;
  nlohmann::ordered_json json{{"file", report.file},
                              {"architecture", report.model.architecture},
                              {"n_context_train", report.model.n_context_train},
                              {"expert_bytes", report.model.expert_bytes},
                              {"cycle_bytes", report.model.cycle_bytes}};
  json["machine"] = {{"ram_bytes", machine.ram_bytes},
                     {"budget_bytes", budget_of(machine.ram_bytes)},
                     {"memory_bytes_per_second", machine.memory_bytes_per_second},
                     {"drive_bytes_per_second", machine.drive_bytes_per_second},
                     {"overhead_seconds", machine.overhead_seconds},
                     {"machines", machine.machines},
                     {"network_bytes_per_second", machine.network_bytes_per_second},
                     {"latency_seconds", machine.latency_seconds}};
  auto& hits =
      json["hit_rates"] = {{"source", hits_name(report.hits.kind)}, {"assumed", report.hits.is_assumed()}};
  if (!report.hits.is_assumed()) {
    hits["trace"] = report.hits.trace;
    hits["shape"] = report.hits.shape;
    hits["same_shape"] = report.hits.same_shape;
    hits["first_uses"] = report.hits.first_uses;
  }
  auto& contexts = json["contexts"] = nlohmann::ordered_json::array();
  for (const PlannedContext& at : report.contexts) {
    const MemoryPlan& whole = at.model.whole;
    nlohmann::ordered_json one{{"context", at.context},
                               {"fits", at.plan.has_value()},
                               {"dense_memory_bytes", whole.dense_bytes},
                               {"kv_bytes", whole.kv_bytes},
                               {"buffer_bytes", whole.buffer_bytes},
                               {"least_ram_bytes", ram_for(whole.minimum_bytes)},
                               {"ram_bytes_for_all_experts", ram_for_all(at.model, machine.machines)},
                               {"dense_read_bytes", at.model.speed.dense_read_bytes},
                               {"state_read_bytes", at.model.speed.state_read_bytes}};
    if (at.plan && at.outlook) {
      one["arena_bytes"] = at.plan->arena_bytes;
      one["slots"] = at.plan->n_slot;
      one["experts"] = at.plan->n_expert_total;
      one["expected"] = outlook_json(*at.outlook);
    }
    auto& over_memory = one["over_memory"] = nlohmann::ordered_json::array();
    for (const Outlook& outlook : at.over_memory) over_memory.push_back(outlook_json(outlook));
    contexts.push_back(std::move(one));
  }
  // Names come from the file and may hold any bytes.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace odmoe::cli
