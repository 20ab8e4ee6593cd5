// What `odmoe plan` shows: a table, charts over memory, and JSON of the same figures.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/outlook.h"
#include "odmoe/engine.h"
#include "odmoe/stats.h"

namespace odmoe::cli {

// Where hit rates come from.
struct HitSource {
  enum class Kind { kTrace, kTraces, kChance };
  Kind kind = Kind::kTraces;
  std::string trace;       // the file; of kTrace, as are those below
  std::string shape;       // "24 layers of 32 experts, 4 of them for a token"
  bool same_shape = true;  // as the model's
  double first_uses = 0;   // TraceHits
  bool is_assumed() const { return kind != Kind::kTrace; }
};

struct PlannedContext {
  int32_t context = 0;  // tokens
  PlannedModel model;
  // On the machine asked for: both or, where it has not the memory, neither.
  std::optional<MemoryPlan> plan;
  std::optional<Outlook> outlook;
  std::vector<Outlook> over_memory;
};

struct PlanReport {
  ModelInfo model;
  std::string file;
  Machine machine;
  HitSource hits;
  std::vector<PlannedContext> contexts;
};

// "4K", "32K", "1000".
std::string context_text(int32_t context);
std::string plan_table(const PlanReport& report);
// Tokens a second over memory, a chart for each context.
std::string plan_charts(const PlanReport& report);
std::string plan_json(const PlanReport& report);

}  // namespace odmoe::cli
