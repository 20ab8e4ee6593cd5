#include "cli/batch_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/units.h"
#include "runnable_model.h"
#include "temp_dir.h"

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;

TEST(BatchWidth, SequencesHaveAQuarterOfWhatTheyShareWithTheExperts) {
  EXPECT_EQ(width_for(64 * kGiB, kGiB, 256), 16);
  EXPECT_EQ(width_for(63 * kGiB, kGiB, 256), 8);
  EXPECT_EQ(width_for(1024 * kGiB, kMiB, 256), 256);
  EXPECT_EQ(width_for(1024 * kGiB, kMiB, 100), 64);
  EXPECT_EQ(width_for(kGiB, 10 * kGiB, 256), 1);
  EXPECT_EQ(width_for(kGiB, 0, 4), 4);
}

TEST(BatchSizes, AreGuessedFromBodiesAndBoundedByTheContext) {
  const odmoe::testing::TempDir dir;
  const auto line = [](const char* id, const std::string& body) {
    return "{\"custom_id\":\"" + std::string(id) +
           "\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":" + body + "}\n";
  };
  const auto path = dir.write("in", line("a", R"({"prompt":"xxxxxxxxxxxxxxxx","max_tokens":7})") + "junk\n" +
                                        line("b", R"({"prompt":"x","n":3})") +
                                        line("c", "{\"prompt\":\"" + std::string(9000, 'x') + "\"}"));
  const auto input = server::BatchInput::open(path).value();
  const auto sizes = sizes_of(input, {.bytes_per_token = 4, .written_tokens = 50}, 1000).value();
  ASSERT_EQ(sizes.size(), 5U);
  EXPECT_EQ(sizes[0].prompt_tokens, 11);
  EXPECT_EQ(sizes[0].written_tokens, 7);
  EXPECT_EQ(sizes[3].written_tokens, 50);
  EXPECT_EQ(sizes[4].prompt_tokens, 1000);
  EXPECT_EQ(sizes[4].written_tokens, 1);
}

TEST(BatchPlan, SaysForEachWidthWhatItReadsAndTakes) {
  const odmoe::testing::TempDir dir;
  EngineOptions options;
  options.model = dir / "model.gguf";
  options.context = 128;
  odmoe::testing::runnable_model({}).write(options.model);
  const Machine machine{
      .ram_bytes = 2 * kGiB, .memory_bytes_per_second = 1e10, .drive_bytes_per_second = 1e9};
  const std::vector<server::SimulatedRequest> requests(20, {.prompt_tokens = 30, .written_tokens = 10});
  const BatchPlan plan = plan_batch(options, {}, machine, hit_rates_of_traces(), 0, requests, {}).value();
  ASSERT_GE(plan.widths.size(), 4U);
  EXPECT_EQ(plan.widths[0].width, 1);
  EXPECT_EQ(plan.widths[1].forecast.written_tokens, 200);
  EXPECT_LT(plan.widths[0].kv_bytes, plan.widths[1].kv_bytes);
  EXPECT_EQ(plan.widths[0].share, 1) << "all of it fits";
  EXPECT_EQ(plan.widths[0].forecast.read_bytes, 0);
  EXPECT_GE(plan.chosen, 16);
  EXPECT_THAT(batch_plan_text(plan),
              HasSubstr("20 requests, 600 prompt tokens to read, 200 tokens to write"));
  const BatchPlan narrow =
      plan_batch(options, {}, machine, hit_rates_of_traces(), 100, requests, {.width = 3, .prompts = {}})
          .value();
  EXPECT_EQ(narrow.chosen, 3);
  EXPECT_EQ(narrow.widths[1].width, 3);
  EXPECT_EQ(narrow.widths[1].prompts, 3) << "no more than there are sequences";
  EXPECT_EQ(narrow.prompt_tokens_per_second, 100);
}

TEST(BatchPlan, SeveralMachinesHaveTheExpertsTogether) {
  const odmoe::testing::TempDir dir;
  EngineOptions options;
  options.model = dir / "model.gguf";
  options.context = 128;
  odmoe::testing::runnable_model({}).write(options.model);
  Machine machine{.ram_bytes = 2 * kGiB, .memory_bytes_per_second = 1e10, .drive_bytes_per_second = 1e9};
  const std::vector<server::SimulatedRequest> requests(20, {.prompt_tokens = 30, .written_tokens = 10});
  const auto planned = [&] {
    return plan_batch(options, {}, machine, hit_rates_of_traces(), 0, requests, {.width = 4, .prompts = 1})
        .value();
  };
  const BatchPlan one = planned();
  machine.machines = 4;
  machine.network_bytes_per_second = 1e9;
  machine.latency_seconds = 50e-6;
  const BatchPlan four = planned();
  EXPECT_EQ(four.widths[1].share, 1);
  EXPECT_GT(four.widths[1].forecast.network_seconds, 0);
  EXPECT_LT(four.widths[1].forecast.compute_seconds, one.widths[1].forecast.compute_seconds);
  EXPECT_THAT(batch_plan_text(four), HasSubstr("each of 4 machines: "));
  EXPECT_THAT(batch_plan_text(four), HasSubstr(", network 954 MiB/s, 50 us"));
  EXPECT_THAT(batch_plan_text(one), ::testing::Not(HasSubstr("network")));
}

TEST(BatchWidth, GivesWayWhereTheMemoryIsSmall) {
  const odmoe::testing::TempDir dir;
  EngineOptions options;
  options.model = dir / "model.gguf";
  options.context = 128;
  odmoe::testing::runnable_model({}).write(options.model);
  ASSERT_TRUE(settle_width(options, {}, {}, 10).has_value());
  EXPECT_EQ(options.sessions, 8);
  EXPECT_EQ(options.prompts, 4);
  // Enough for one sequence, and for what this process grows by meanwhile.
  EngineOptions narrow = options;
  ASSERT_TRUE(settle_width(narrow, {}, {.width = 1, .prompts = 1}, 10).has_value());
  narrow.memory = {.kind = MemoryBudget::Kind::kBytes,
                   .bytes = Engine::memory_plan(narrow)->minimum_bytes + 4 * kMiB,
                   .percent = 0};
  ASSERT_TRUE(settle_width(narrow, {}, {}, 10).has_value());
  EXPECT_EQ(narrow.sessions, 1);
  EXPECT_EQ(narrow.prompts, 1);
  const Status wide = settle_width(narrow, {}, {.width = 64, .prompts = {}}, 64);
  ASSERT_FALSE(wide.has_value());
  EXPECT_EQ(wide.error().kind, ErrorKind::kBudget);
}

}  // namespace
}  // namespace odmoe::cli
