#include "cli/tuning_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr Tuning kBefore{.threads = 0, .lookahead = 3, .memory_bytes = 0, .chunk = 512};
constexpr TurnLengths kReported{.prompt_tokens = 2000, .answer_tokens = 100};

TuningResult result() {
  return {.best = kBefore.with(TunedSetting::kThreads, 3),
          .trials = {{.setting = TunedSetting::kThreads,
                      .value = 0,
                      .outcome = Trial::Outcome::kBefore,
                      .runs = {{.prefill = 100, .decode = 10}, {.prefill = 100, .decode = 30}}},
                     {.setting = TunedSetting::kThreads,
                      .value = 3,
                      .outcome = Trial::Outcome::kKept,
                      .runs = {{.prefill = 200, .decode = 20}}},
                     {.setting = TunedSetting::kMemory,
                      .value = int64_t{3} << 30,
                      .outcome = Trial::Outcome::kRefused,
                      .refusal = "no room"},
                     {.setting = TunedSetting::kChunk, .value = 1024, .outcome = Trial::Outcome::kNoTime}}};
}

TEST(TuningReport, SaysWhatEachValueBroughtAndWhatIsKept) {
  const std::string text = tuning_report(result(), kBefore, kReported, "m.gguf");
  EXPECT_THAT(text, HasSubstr("threads           all        100.00         20.00       25.0  before\n"));
  EXPECT_THAT(text,
              HasSubstr("threads             3        200.00         20.00       15.0  faster, kept\n"));
  EXPECT_THAT(text,
              HasSubstr("memory       3.00 GiB             -             -          -  refused: no room\n"));
  EXPECT_THAT(text,
              HasSubstr("chunk            1024             -             -          -  no time left\n"));
  EXPECT_THAT(text, HasSubstr("Kept for m.gguf: --threads 3.  run and serve use it.\n"));
  EXPECT_THAT(text, Not(HasSubstr("last bits")));
}

TEST(TuningReport, WarnsOfAChunkThatChangesLastBits) {
  TuningResult other = result();
  other.best.chunk = 1024;
  EXPECT_THAT(tuning_report(other, kBefore, kReported, "m.gguf"), HasSubstr("may change last bits"));
}

TEST(TuningReport, SaysWhenNothingWasFaster) {
  TuningResult same = result();
  same.best = kBefore;
  EXPECT_THAT(tuning_report(same, kBefore, kReported, "m.gguf"), HasSubstr("Nothing was faster"));
}

TEST(TuningReport, ForProgramsHasEveryRun) {
  const auto json = nlohmann::json::parse(tuning_json(result(), kBefore, kReported));
  EXPECT_EQ(json["kept"]["threads"], 3);
  EXPECT_EQ(json["before"]["threads"], 0);
  EXPECT_EQ(json["trials"][0]["runs"].size(), 2U);
  EXPECT_EQ(json["trials"][1]["runs"][0]["turn_seconds"], 15.0);
  EXPECT_EQ(json["trials"][2]["refusal"], "no room");
}

}  // namespace
}  // namespace odmoe::cli
