// What people read about memory and speed, and the file that programs read: the same figures.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/inference_options.h"
#include "cli/output.h"
#include "odmoe/engine.h"

namespace odmoe::cli {

// Rows of two columns, the second to one side or the other.
enum class Align { kLeft, kRight };
std::string table(const std::vector<std::pair<std::string, std::string>>& rows, Align align = Align::kRight);

// The division of the budget as a table.
std::string plan_text(const MemoryPlan& plan);
// Of plan_text(), what is in a device's own memory; empty where nothing is.
std::string device_text(const MemoryPlan::Device& device);

// "4 prompt tokens at 812.1/s, 120 tokens at 95.3/s; 91.2 % of 5760 experts were in memory, ..."
std::string work_text(const Stats& stats);

// An engine and what --stats and --verbose say about it.  The statistics are written whatever becomes of the
// work, because a run that failed is the one that somebody wants to look into.
class ReportedEngine {
 public:
  // Creates the file of --stats first: better to fail now than after an hour.  Shows a bar while the dense
  // weights are read, then the memory plan (--verbose).
  static Result<ReportedEngine> open(const InferenceOptions& options);

  Engine& operator*() const { return *engine_; }
  Engine* operator->() const { return engine_.get(); }

  // Writes the reports.  `outcome` comes back unless it was fine and a report could not be written.
  Result<int> finish(Result<int> outcome);

 private:
  ReportedEngine(std::unique_ptr<Engine> engine, std::optional<Output> stats, bool verbose)
      : engine_(std::move(engine)), stats_(std::move(stats)), verbose_(verbose) {}

  std::unique_ptr<Engine> engine_;
  std::optional<Output> stats_;
  bool verbose_;
};

}  // namespace odmoe::cli
