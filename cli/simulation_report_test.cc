#include "cli/simulation_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::vector<SimulationCell> cells() {
  std::vector<SimulationCell> all;
  for (const double percent : {25.0, 50.0}) {
    for (const bool ours : {true, false}) {
      all.push_back({.policy = ours ? "forecast" : "belady",
                     .is_default = ours,
                     .percent = percent,
                     .budget_bytes = static_cast<uint64_t>(percent) << 20U,
                     .n_slot = static_cast<int64_t>(percent),
                     .demands = 1000,
                     .hits = static_cast<uint64_t>(percent) * (ours ? 10 : 12)});
    }
  }
  return all;
}

TEST(SimulationReport, TheTableHasARowPerBudgetAndAColumnPerPolicy) {
  EXPECT_EQ(simulation_table(cells()),
            "   experts       bytes   slots   forecast     belady\n"
            "      25 %    25.0 MiB      25     0.2500     0.3000\n"
            "      50 %    50.0 MiB      50     0.5000     0.6000\n"
            "1000 demands of experts\n");
}

TEST(SimulationReport, CsvHasALinePerPolicyAndBudget) {
  const std::string csv = simulation_csv(cells());
  EXPECT_EQ(std::ranges::count(csv, '\n'), 5);
  EXPECT_THAT(csv, HasSubstr("forecast,true,25,26214400,25,1000,250,0.25\n"));
}

TEST(SimulationReport, JsonHasAnObjectPerPolicyAndBudget) {
  const auto json = nlohmann::json::parse(simulation_json(cells()));
  ASSERT_EQ(json.size(), 4U);
  EXPECT_EQ(json[0]["policy"], "forecast");
  EXPECT_EQ(json[0]["default"], true);
  EXPECT_EQ(json[0]["budget_bytes"], 26214400);
  EXPECT_EQ(json[0]["demands"], 1000);
  EXPECT_EQ(json[0]["hits"], 250);
  EXPECT_EQ(json[0]["hit_rate"], 0.25);
  EXPECT_EQ(json[1]["default"], false);
}

TEST(SimulationReport, ThePlotNamesItsPoliciesAndBudgetsAndFitsTheTerminal) {
  const std::string plot = simulation_plot(cells(), 60, false);
  EXPECT_THAT(plot, HasSubstr("a forecast"));
  EXPECT_THAT(plot, HasSubstr("b belady"));
  EXPECT_THAT(plot, HasSubstr("25 %"));
  EXPECT_THAT(plot, HasSubstr("50 % of the experts"));
  EXPECT_THAT(plot, Not(HasSubstr("\x1b")));
  EXPECT_THAT(simulation_plot(cells(), 60, true), HasSubstr("\x1b"));
}

TEST(SimulationReport, OneBudgetIsNoPlot) {
  auto one = cells();
  one.resize(2);
  EXPECT_EQ(simulation_plot(one, 80, false), "");
}

}  // namespace
}  // namespace odmoe::cli
