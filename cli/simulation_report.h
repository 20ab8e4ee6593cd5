// What `odmoe simulate` shows: a table, a plot for the terminal, CSV and JSON of the same figures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace odmoe::cli {

struct SimulationCell {
  std::string policy;
  bool is_default = false;
  double percent = 0;  // of the experts
  uint64_t budget_bytes = 0;
  int64_t n_slot = 0;
  uint64_t demands = 0, hits = 0;
  double hit_rate() const {
    return demands == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(demands);
  }
};

// `cells` are by budget, then policy, the same policies for every budget.
std::string simulation_table(const std::vector<SimulationCell>& cells);
std::string simulation_csv(const std::vector<SimulationCell>& cells);
std::string simulation_json(const std::vector<SimulationCell>& cells);
// Hit rate over the budget, its axis logarithmic, a line and a letter per policy; empty for fewer than two
// budgets.  `colour`: with escape sequences.
std::string simulation_plot(const std::vector<SimulationCell>& cells, int columns, bool colour);

}  // namespace odmoe::cli
