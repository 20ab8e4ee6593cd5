#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/units.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

MemoryNeeds needs() {
  return {.dense_bytes = 100 * kMiB,
          .kv_bytes = 50 * kMiB,
          .buffer_bytes = 30 * kMiB,
          .min_arena_bytes = 20 * kMiB,
          .max_arena_bytes = 1000 * kMiB,
          .expert_bytes = 990 * kMiB,
          .available_bytes = 8 * kGiB};
}
MemoryBudget bytes(uint64_t n) { return {.kind = MemoryBudget::Kind::kBytes, .bytes = n, .percent = 0}; }
MemoryBudget percent(double p) {
  return {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = p};
}

TEST(MemoryPlan, LoadingTheDenseWeightsMustFitToo) {
  MemoryNeeds n = needs();
  n.load_bytes = 100 * kMiB;  // more than the KV cache and the least arena, which are not used yet
  EXPECT_EQ(plan_memory(bytes(400 * kMiB), n).value().minimum_bytes, 230 * kMiB);
  EXPECT_FALSE(plan_memory(bytes(229 * kMiB), n).has_value());
  EXPECT_EQ(plan_memory(percent(0.001), n).value().budget_bytes, 230 * kMiB);
  n.load_bytes = 60 * kMiB;
  EXPECT_EQ(plan_memory(bytes(400 * kMiB), n).value().minimum_bytes, 200 * kMiB);
}

TEST(MemoryPlan, ADevicesMemoryIsNoneOfTheHosts) {
  MemoryNeeds n = needs();
  const MemoryPlan alone = plan_memory(bytes(400 * kMiB), n).value();
  n.device = {.available_bytes = 600 * kMiB,
              .dense_bytes = 300 * kMiB,
              .kv_bytes = 200 * kMiB,
              .buffer_bytes = 100 * kMiB};
  n.device_name = "GPU";
  const MemoryPlan plan = plan_memory(bytes(400 * kMiB), n).value();
  EXPECT_EQ(plan.arena_bytes, alone.arena_bytes);
  EXPECT_EQ(plan.device.bytes(), 600 * kMiB);
}

TEST(MemoryPlan, MemoryThatADeviceSharesCountsOnce) {
  MemoryNeeds n = needs();
  n.device = {.name = "GPU0",
              .shares_host_memory = true,
              .available_bytes = 600 * kMiB,
              .dense_bytes = 60 * kMiB,
              .kv_bytes = 30 * kMiB,
              .buffer_bytes = 10 * kMiB};
  n.device_name = "GPU0: integrated";
  const MemoryPlan plan = plan_memory(bytes(400 * kMiB), n).value();
  EXPECT_EQ(plan.arena_bytes, 120 * kMiB);
  EXPECT_EQ(plan.minimum_bytes, 300 * kMiB);
  EXPECT_EQ(plan_memory(percent(1), n).value().budget_bytes, 300 * kMiB);
  const auto refused = plan_memory(bytes(299 * kMiB), n);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("100 MiB for GPU0"));
  EXPECT_THAT(refused.error().message, HasSubstr("use --memory 300MiB or more"));
  n.load_bytes = 200 * kMiB;
  EXPECT_EQ(plan_memory(bytes(800 * kMiB), n).value().minimum_bytes, 430 * kMiB);
}

TEST(MemoryPlan, WhatIsLeftOfABudgetIsBesideTheLeastThatIsNeeded) {
  MemoryNeeds n = needs();
  EXPECT_EQ(left_of_budget(bytes(400 * kMiB), n), 200 * kMiB);
  EXPECT_EQ(left_of_budget(bytes(100 * kMiB), n), 0U);
  EXPECT_EQ(left_of_budget(percent(1), n), UINT64_MAX) << "it follows what is needed";
  n.device = {.shares_host_memory = true, .dense_bytes = 60 * kMiB, .arena_bytes = 40 * kMiB};
  EXPECT_EQ(left_of_budget(bytes(400 * kMiB), n), 100 * kMiB);
  n.device.shares_host_memory = false;
  EXPECT_EQ(left_of_budget(bytes(400 * kMiB), n), 200 * kMiB);
  const MemoryBudget automatic{.kind = MemoryBudget::Kind::kAuto, .bytes = 0, .percent = 0};
  EXPECT_EQ(left_of_budget(automatic, n), 8 * kGiB - auto_margin(8 * kGiB) - 200 * kMiB);
  n.available_bytes = 0;
  EXPECT_EQ(left_of_budget(automatic, n), UINT64_MAX);
}

TEST(MemoryPlan, WhatADeviceCannotHoldIsRefusedByItsName) {
  MemoryNeeds n = needs();
  n.device = {.available_bytes = 599 * kMiB,
              .dense_bytes = 300 * kMiB,
              .kv_bytes = 200 * kMiB,
              .buffer_bytes = 100 * kMiB};
  n.device_name = "GPU";
  auto plan = plan_memory(bytes(400 * kMiB), n);
  ASSERT_FALSE(plan.has_value());
  EXPECT_THAT(plan.error().message, HasSubstr("; use --device cpu, or a smaller --context"));
  n.device_is_bounded = true;
  plan = plan_memory(bytes(400 * kMiB), n);
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().kind, ErrorKind::kBudget);
  EXPECT_THAT(plan.error().message,
              HasSubstr("599 MiB of memory may be taken of GPU: this model needs 600 MiB there"));
  EXPECT_THAT(plan.error().message, HasSubstr("use --device-memory 600MiB or more"));
  EXPECT_THAT(plan.error().message, HasSubstr("a smaller --context"));
  EXPECT_THAT(plan.error().message, Not(HasSubstr("--memory")));
  plan = plan_memory(bytes(199 * kMiB), n);  // neither memory does
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().kind, ErrorKind::kBudget);
  EXPECT_THAT(plan.error().message, HasSubstr("use --device-memory 600MiB or more"));
  EXPECT_THAT(plan.error().message, HasSubstr("; besides, a budget of 199 MiB is too small"));
  EXPECT_THAT(plan.error().message, HasSubstr("use --memory 200MiB or more"));
  EXPECT_FALSE(plan_memory(percent(10), n).has_value());
  n.device.available_bytes = 0;  // it does not say
  EXPECT_TRUE(plan_memory(bytes(400 * kMiB), n).has_value());
}

TEST(MemoryPlan, TheArenaGetsWhatTheOthersLeave) {
  const MemoryPlan plan = plan_memory(bytes(400 * kMiB), needs()).value();
  EXPECT_EQ(plan.arena_bytes, 220 * kMiB);
  EXPECT_EQ(plan.budget_bytes, 400 * kMiB);
  EXPECT_EQ(plan.minimum_bytes, 200 * kMiB);
}

TEST(MemoryPlan, TheArenaIsNeverLargerThanAllExperts) {
  EXPECT_EQ(plan_memory(bytes(100 * kGiB), needs()).value().arena_bytes, 1000 * kMiB);
}

TEST(MemoryPlan, TheSmallestBudgetWorksAndOneByteLessIsRefusedNamingIt) {
  const auto exact = plan_memory(bytes(200 * kMiB), needs());
  ASSERT_TRUE(exact.has_value());
  EXPECT_EQ(exact->arena_bytes, 20 * kMiB);
  const auto less = plan_memory(bytes(200 * kMiB - 1), needs());
  ASSERT_FALSE(less.has_value());
  EXPECT_EQ(less.error().kind, ErrorKind::kBudget);
  EXPECT_THAT(less.error().message, HasSubstr("--memory 200MiB"));
}

TEST(MemoryPlan, AShareOfTheExpertsSetsTheArenaAndTheBudgetFollows) {
  const MemoryPlan plan = plan_memory(percent(25), needs()).value();
  EXPECT_EQ(plan.arena_bytes, 250 * kMiB);
  EXPECT_EQ(plan.budget_bytes, 430 * kMiB);
  EXPECT_EQ(plan_memory(percent(0.001), needs()).value().arena_bytes, 20 * kMiB);
  EXPECT_EQ(plan_memory(percent(100), needs()).value().arena_bytes, 1000 * kMiB);
}

TEST(MemoryPlan, AutoLeavesAMarginOfWhatIsAvailable) {
  MemoryNeeds n = needs();
  n.max_arena_bytes = 100 * kGiB;
  const MemoryPlan plan = plan_memory({}, n).value();
  EXPECT_EQ(plan.budget_bytes, 8 * kGiB - 512 * kMiB);
  EXPECT_EQ(auto_margin(1 * kGiB), 256 * kMiB);
  EXPECT_EQ(auto_margin(192 * kGiB), 4 * kGiB);
}

TEST(MemoryPlan, AutoWithoutKnowledgeOfTheMachineTakesWhatTheModelNeeds) {
  MemoryNeeds n = needs();
  n.available_bytes = 0;
  EXPECT_EQ(plan_memory({}, n).value().arena_bytes, n.max_arena_bytes);
}

TEST(MemoryPlan, ALargeCacheInATooSmallBudgetSuggestsASmallerContext) {
  MemoryNeeds n = needs();
  n.kv_bytes = 500 * kMiB;
  EXPECT_THAT(plan_memory(bytes(kMiB), n).error().message, HasSubstr("--context"));
  EXPECT_THAT(plan_memory(bytes(kMiB), needs()).error().message, Not(HasSubstr("--context")));
}

TEST(MemoryPlan, LargeBuffersInATooSmallBudgetSuggestASmallerChunk) {
  MemoryNeeds n = needs();
  n.buffer_bytes = 500 * kMiB;
  EXPECT_THAT(plan_memory(bytes(kMiB), n).error().message, HasSubstr("--chunk"));
  EXPECT_THAT(plan_memory(bytes(kMiB), needs()).error().message, Not(HasSubstr("--chunk")));
}

TEST(MemoryPlan, WhatRequestsTakeIsNamedInATooSmallBudget) {
  MemoryNeeds n = needs();
  n.reserved_bytes = 500 * kMiB;
  const std::string message = plan_memory(bytes(kMiB), n).error().message;
  EXPECT_THAT(message, HasSubstr("500 MiB requests"));
  EXPECT_THAT(message, HasSubstr("--max-body"));
  EXPECT_EQ(plan_memory(bytes(2000 * kMiB), n).value().minimum_bytes, 700 * kMiB);
  EXPECT_THAT(plan_memory(bytes(kMiB), needs()).error().message, Not(HasSubstr("requests")));
}

TEST(MemoryBudgetText, SizesSharesAndAutoAreRead) {
  EXPECT_EQ(parse_memory_budget("8GiB")->bytes, 8 * kGiB);
  EXPECT_EQ(parse_memory_budget("12.5%")->percent, 12.5);
  EXPECT_EQ(parse_memory_budget("auto")->kind, MemoryBudget::Kind::kAuto);
  for (const char* text : {"0%", "101%", "-1%", "%", "x%", "many", ""}) {
    EXPECT_EQ(parse_memory_budget(text).error().kind, ErrorKind::kUsage) << text;
  }
}

}  // namespace
}  // namespace odmoe
