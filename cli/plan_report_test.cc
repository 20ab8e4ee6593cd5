#include "cli/plan_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/units.h"

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

PlanReport report(uint64_t ram_bytes) {
  PlanReport made;
  made.file = "model.gguf";
  made.machine = {
      .ram_bytes = ram_bytes, .memory_bytes_per_second = 60. * kGiB, .drive_bytes_per_second = 2. * kGiB};
  made.model.n_context_train = 4096;
  for (const int32_t context : {4096, 1000000}) {
    PlannedContext at;
    at.context = context;
    at.model.whole.kv_bytes = context == 4096 ? kGiB : 50 * kGiB;
    at.model.whole.arena_bytes = 40 * kGiB;
    at.model.whole.budget_bytes = at.model.whole.kv_bytes + 43 * kGiB;
    at.model.whole.minimum_bytes = at.model.whole.kv_bytes + 4 * kGiB;
    at.model.speed = {.dense_read_bytes = 2 * kGiB, .cycle_bytes = kGiB};
    at.outlook = look_out(at.model, made.machine, hit_rates_of_chance());
    if (at.outlook) at.plan = MemoryPlan{.arena_bytes = 11 * kGiB, .n_slot = 11, .n_expert_total = 40};
    at.over_memory = over_memory(at.model, made.machine, hit_rates_of_chance());
    made.contexts.push_back(at);
  }
  made.hits.kind = HitSource::Kind::kChance;
  return made;
}

TEST(PlanReport, AssumedHitRatesAreSaidToBeInEveryPartOfIt) {
  PlanReport assumed = report(16 * kGiB);
  for (const auto kind : {HitSource::Kind::kChance, HitSource::Kind::kTraces}) {
    assumed.hits.kind = kind;
    EXPECT_THAT(plan_table(assumed), HasSubstr("hit rate, ASSUMED"));
    EXPECT_THAT(plan_table(assumed), HasSubstr("Hit rates are ASSUMED, not recorded"));
    EXPECT_THAT(plan_charts(assumed), HasSubstr("hit rates ASSUMED"));
    EXPECT_TRUE(nlohmann::json::parse(plan_json(assumed))["hit_rates"]["assumed"].get<bool>());
  }
}

TEST(PlanReport, SeveralMachinesHaveANetworkAndNoSlotsOfOne) {
  PlanReport several = report(16 * kGiB);
  several.machine.machines = 4;
  several.machine.network_bytes_per_second = 1e9;
  several.machine.latency_seconds = 5e-5;
  for (PlannedContext& at : several.contexts) {
    at.model.n_expert_layer = 10;
    at.model.n_expert_used = 8;
    at.model.n_embd = 1024;
    at.outlook = look_out(at.model, several.machine, hit_rates_of_chance());
  }
  const std::string text = plan_table(several);
  EXPECT_THAT(text, HasSubstr("4, each with an equal share"));
  EXPECT_THAT(text, HasSubstr("50 us"));
  EXPECT_THAT(text, HasSubstr("network, ms for a token"));
  EXPECT_THAT(text, Not(HasSubstr("slots")));
  const auto json = nlohmann::json::parse(plan_json(several));
  EXPECT_EQ(json["machine"]["machines"], 4);
  EXPECT_NEAR(json["contexts"][0]["expected"]["network_seconds"].get<double>(),
              several.contexts[0].outlook->network_seconds, 1e-9);
  EXPECT_THAT(plan_table(report(16 * kGiB)), Not(HasSubstr("network")));
}

TEST(PlanReport, RecordedHitRatesNameTheTraceAndWhetherItIsOfThisShape) {
  PlanReport recorded = report(16 * kGiB);
  recorded.hits = {.kind = HitSource::Kind::kTrace,
                   .trace = "routing.csv",
                   .shape = "2 layers of 8 experts, 2 of them for a token",
                   .same_shape = true,
                   .first_uses = .25};
  EXPECT_THAT(plan_table(recorded), HasSubstr("routing.csv"));
  EXPECT_THAT(plan_table(recorded), HasSubstr("25.0 %"));
  EXPECT_THAT(plan_table(recorded) + plan_charts(recorded), Not(HasSubstr("ASSUMED")));
  EXPECT_THAT(plan_table(recorded), Not(HasSubstr("not this model's shape")));
  recorded.hits.same_shape = false;
  EXPECT_THAT(plan_table(recorded), HasSubstr("not this model's shape"));
  const auto json = nlohmann::json::parse(plan_json(recorded))["hit_rates"];
  EXPECT_EQ(json["assumed"], false);
  EXPECT_EQ(json["first_uses"], .25);
}

TEST(PlanReport, AContextThatDoesNotFitHasTheMemoryThatItTakes) {
  const PlanReport made = report(16 * kGiB);
  EXPECT_THAT(plan_table(made), HasSubstr("does not fit"));
  EXPECT_THAT(plan_table(made), HasSubstr(format_bytes(ram_for(54 * kGiB))));
  const auto contexts = nlohmann::json::parse(plan_json(made))["contexts"];
  EXPECT_EQ(contexts[0]["fits"], true);
  EXPECT_EQ(contexts[0]["slots"], 11);
  EXPECT_EQ(contexts[1]["fits"], false);
  EXPECT_FALSE(contexts[1].contains("expected"));
  EXPECT_EQ(contexts[1]["least_ram_bytes"], ram_for(54 * kGiB));
  EXPECT_FALSE(contexts[1]["over_memory"].empty());
}

TEST(PlanReport, SaysWhatTheModelWasNotTrainedFor) {
  EXPECT_THAT(plan_table(report(16 * kGiB)), HasSubstr("trained for 4096 tokens: texts of 1000000"));
}

TEST(PlanReport, TheChartMarksTheMachineAskedForAndWhatATokenWaitsFor) {
  const std::string charts = plan_charts(report(16 * kGiB));
  EXPECT_THAT(charts, HasSubstr("2.42 to 2.76, 27.5 % of the experts, waits for drive <\n"));
  EXPECT_THAT(charts, HasSubstr("20.0, 100.0 % of the experts, waits for memory\n"));
}

TEST(PlanReport, ContextsAreWrittenAsPeopleSayThem) {
  EXPECT_EQ(context_text(4096), "4K");
  EXPECT_EQ(context_text(262144), "256K");
  EXPECT_EQ(context_text(1000), "1000");
}

}  // namespace
}  // namespace odmoe::cli
