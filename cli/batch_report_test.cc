#include "cli/batch_report.h"

#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

class BatchClock final : public Clock {
 public:
  int64_t now_us() const override { return now_us_; }
  int64_t now_us_ = 5'000'000;
};

TEST(BatchReport, DurationsHaveHoursWhereThereAreAny) {
  EXPECT_EQ(duration_text(0.9), "0:00");
  EXPECT_EQ(duration_text(307), "5:07");
  EXPECT_EQ(duration_text(3907), "1:05:07");
}

TEST(BatchReport, WhatIsLeftFollowsFromWhatWasDoneHere) {
  BatchClock clock;
  const BatchPace pace(clock);
  server::BatchCounts counts{.total = 100, .done = 40, .before = 30, .failed = 0};
  EXPECT_EQ(pace.text(counts), "40 of 100 requests");
  clock.now_us_ += 20'000'000;
  counts.generated_tokens = 500;
  // Ten took 20 seconds, sixty are left.
  EXPECT_EQ(pace.text(counts), "40 of 100 requests, 25.0 tokens/s, 2:00 left");
  counts.done = 30;
  EXPECT_EQ(pace.text(counts), "30 of 100 requests, 25.0 tokens/s");
}

TEST(BatchReport, TheSummarySaysWhatWentWrong) {
  BatchClock clock;
  const BatchPace pace(clock);
  clock.now_us_ += 10'000'000;
  EXPECT_EQ(pace.summary({.total = 7, .done = 7, .prompt_tokens = 70, .generated_tokens = 100}),
            "7 requests; 70 prompt tokens, 100 tokens at 10.0/s in 0:10");
  EXPECT_EQ(pace.summary({.total = 7, .done = 7, .before = 3, .failed = 2}),
            "7 requests, 3 of them before, 2 with an error; 0 prompt tokens, 0 tokens at 0.0/s in 0:10");
}

}  // namespace
}  // namespace odmoe::cli
