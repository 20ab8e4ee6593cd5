#include "cli/outlook.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/units.h"

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;

// 4 GiB beside the experts, which are 40 GiB; a token reads 2 GiB of weights that are always there, 1 GiB of
// experts.
PlannedModel model() {
  PlannedModel planned;
  planned.whole.dense_bytes = 3 * kGiB;
  planned.whole.kv_bytes = 1 * kGiB;
  planned.whole.arena_bytes = 40 * kGiB;
  planned.whole.budget_bytes = 44 * kGiB;
  planned.whole.minimum_bytes = 5 * kGiB;
  planned.speed = {.dense_read_bytes = 2 * kGiB, .cycle_bytes = kGiB};
  return planned;
}

Machine machine(uint64_t ram_bytes) {
  return {.ram_bytes = ram_bytes, .memory_bytes_per_second = 60. * kGiB, .drive_bytes_per_second = 2. * kGiB};
}

TEST(Outlook, TheMachineWithTheMostOfAnyNumber) {
  EXPECT_EQ(expected_most_of(1)(7.5), 7.5);
  const auto most = expected_most_of(4);
  EXPECT_EQ(most(0), 0);
  EXPECT_NEAR(most(1), 1, 1e-12);
  EXPECT_NEAR(most(8), expected_most(8, 4), 1e-12);
  EXPECT_NEAR(most(8.5), (expected_most(8, 4) + expected_most(9, 4)) / 2, 1e-12);
  EXPECT_NEAR(most(100), expected_most(100, 4), 0.02 * expected_most(100, 4));
  EXPECT_NEAR(most(1e6), 250'000, 1000) << "of many each has its share";
}

TEST(Outlook, IsWhatFollowsByHand) {
  // 16 GiB less a sixteenth: 15, of which 11 are for 40 GiB of experts.
  const Outlook outlook = look_out(model(), machine(16 * kGiB), hit_rates_of_chance()).value();
  EXPECT_NEAR(outlook.share, 11. / 40, 1e-12);
  EXPECT_NEAR(outlook.hit_rate, 11. / 40, 1e-12);
  EXPECT_NEAR(outlook.speed.memory, 60. / 3, 1e-9);
  EXPECT_NEAR(outlook.speed.drive.value(), 2 / (29. / 40), 1e-9);
  EXPECT_NEAR(outlook.speed.overlapped(), 80. / 29, 1e-9);
  EXPECT_NEAR(outlook.speed.one_after_the_other(), 1 / (.05 + 29. / 80), 1e-9);
}

TEST(Outlook, WaitsForNoDriveOnceAllExpertsAreInMemory) {
  const Outlook outlook = look_out(model(), machine(48 * kGiB), hit_rates_of_chance()).value();
  EXPECT_EQ(outlook.share, 1);
  EXPECT_FALSE(outlook.speed.drive.has_value());
  EXPECT_NEAR(outlook.speed.overlapped(), 20, 1e-9);
}

TEST(Outlook, IsNoneBelowTheLeastMemoryAndThereAtIt) {
  const uint64_t least = ram_for(model().whole.minimum_bytes);
  EXPECT_EQ(least, 5 * kGiB * 16 / 15);  // the margin is rounded down
  EXPECT_TRUE(look_out(model(), machine(least), hit_rates_of_traces()).has_value());
  EXPECT_FALSE(look_out(model(), machine(least - 1), hit_rates_of_traces()).has_value());
}

TEST(Outlook, TheRamForABudgetIsTheLeastThatLeavesIt) {
  for (const uint64_t budget :
       {uint64_t{0}, kMiB, kGiB, 3 * kGiB, 4 * kGiB, 59 * kGiB, 60 * kGiB, 100 * kGiB}) {
    const uint64_t ram = ram_for(budget);
    EXPECT_GE(budget_of(ram), budget) << budget;
    if (budget > 0) {
      EXPECT_LT(budget_of(ram - 1), budget) << budget;
    }
  }
}

TEST(Outlook, MoreMemoryIsNeverWorse) {
  for (const HitRates* rates : {&hit_rates_of_traces(), &hit_rates_of_chance()}) {
    Outlook before{};
    for (uint64_t ram = 6 * kGiB; ram < 80 * kGiB; ram += 300 * kMiB) {
      const Outlook now = look_out(model(), machine(ram), *rates).value();
      EXPECT_GE(now.share, before.share);
      EXPECT_GE(now.hit_rate, before.hit_rate);
      EXPECT_GE(now.speed.overlapped(), before.speed.overlapped());
      EXPECT_GE(now.speed.one_after_the_other(), before.speed.one_after_the_other());
      before = now;
    }
  }
}

TEST(Outlook, OverMemoryGoesFromTheLeastThatWillDoToWhatHoldsAllExperts) {
  const auto sizes = [](uint64_t ram) {
    std::vector<double> gib;
    for (const Outlook& at : over_memory(model(), machine(ram), hit_rates_of_traces()))
      gib.push_back(static_cast<double>(at.ram_bytes) / kGiB);
    return gib;
  };
  EXPECT_THAT(sizes(16 * kGiB), ::testing::ElementsAre(8, 12, 16, 24, 32, 48));
  EXPECT_THAT(sizes(20 * kGiB), ::testing::ElementsAre(8, 12, 16, 20, 24, 32, 48));
  EXPECT_THAT(sizes(100 * kGiB), ::testing::ElementsAre(8, 12, 16, 24, 32, 48, 100));
  EXPECT_THAT(sizes(2 * kGiB), ::testing::ElementsAre(8, 12, 16, 24, 32, 48));
}

TEST(Machine, NumbersThatNoMachineHasAreRefusedWithWhatToWrite) {
  EXPECT_TRUE(machine(16 * kGiB).validate().has_value());
  const auto said = [](const Machine& odd) {
    const auto status = odd.validate();
    EXPECT_FALSE(status.has_value());
    return status.has_value() ? std::string() : status.error().message;
  };
  EXPECT_THAT(said(machine(192)), HasSubstr("192GiB"));
  EXPECT_THAT(said(machine(uint64_t{1} << 60U)), HasSubstr("--ram"));
  Machine odd = machine(16 * kGiB);
  odd.memory_bytes_per_second = 800;
  EXPECT_THAT(said(odd), HasSubstr("800GB/s"));
  odd.memory_bytes_per_second = 1e16;
  EXPECT_THAT(said(odd), HasSubstr("--memory-bandwidth"));
  odd = machine(16 * kGiB);
  odd.drive_bytes_per_second = 0;
  EXPECT_THAT(said(odd), HasSubstr("--drive"));
  odd.drive_bytes_per_second = odd.memory_bytes_per_second * 2;
  EXPECT_THAT(said(odd), HasSubstr("exchanged"));
}

TEST(Outlook, TheMostOfSeveralMachinesIsWhatFollowsByHand) {
  EXPECT_NEAR(expected_most(8, 1), 8, 1e-12);
  EXPECT_NEAR(expected_most(0, 4), 0, 1e-12);
  EXPECT_NEAR(expected_most(1, 4), 1, 1e-12);
  EXPECT_NEAR(expected_most(2, 2), 1.5, 1e-12);
  EXPECT_NEAR(expected_most(3, 2), (3 * 2 + 2 * 6) / 8., 1e-12);
  EXPECT_NEAR(expected_most(2, 3), (2 * 3 + 1 * 6) / 9., 1e-12);
}

TEST(Outlook, SeveralMachinesHaveTheirMemoriesAndDrivesTogetherAndWaitForTheNetwork) {
  PlannedModel spread = model();
  spread.whole.buffer_bytes = kGiB / 2;
  spread.n_expert_layer = 10;
  spread.n_expert_used = 2;
  spread.n_embd = 1024;
  Machine two = machine(16 * kGiB);
  two.machines = 2;
  two.network_bytes_per_second = 1e9;
  two.latency_seconds = 1e-4;
  // 15 GiB each, of which 4 and 0.5 are for something else.
  const Outlook outlook = look_out(spread, two, hit_rates_of_chance()).value();
  EXPECT_NEAR(outlook.share, 25.5 / 40, 1e-12);
  // Of two experts three quarters fall to the slower machine; of those missing (a with chance q) more.
  const double q = 1 - outlook.hit_rate;
  const double missing = (2 * q * (1 - q) + 1.5 * q * q) / 2;
  EXPECT_NEAR(outlook.speed.memory, 60. / (2 + .75), 1e-6);
  EXPECT_NEAR(outlook.speed.drive.value(), 2 / missing, 1e-6);
  // The other machine is asked three times of four, and gives one row.
  EXPECT_NEAR(outlook.network_bytes, 10 * 1.75 * 4096, 1e-6);
  EXPECT_NEAR(outlook.network_seconds, 10 * 2e-4 + outlook.network_bytes / 1e9, 1e-12);
  EXPECT_NEAR(outlook.speed.overlapped(), 1 / (missing / 2 + outlook.network_seconds), 1e-6);
  EXPECT_EQ(ram_for_all(spread, 2), ram_for((44 * kGiB + kGiB / 2) / 2));
  EXPECT_EQ(ram_for_all(spread, 1), ram_for(44 * kGiB));
}

TEST(Outlook, ManyMachinesOfANetworkAreNotWhatNobodyHas) {
  Machine many = machine(16 * kGiB);
  many.machines = 256;
  EXPECT_THAT(many.validate().error().message, HasSubstr("--machines"));
  many.machines = 2;
  EXPECT_THAT(many.validate().error().message, HasSubstr("--network"));
  many.network_bytes_per_second = 1e9;
  EXPECT_TRUE(many.validate().has_value());
  many.latency_seconds = 2;
  EXPECT_THAT(many.validate().error().message, HasSubstr("--latency"));
}

}  // namespace
}  // namespace odmoe::cli
