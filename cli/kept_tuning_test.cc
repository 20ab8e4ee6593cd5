#include "cli/kept_tuning.h"

#include <gtest/gtest.h>

#include <fstream>

#include "cli/inference_options.h"
#include "temp_dir.h"

namespace odmoe::cli {
namespace {

constexpr Tuning kTuning{.threads = 1, .lookahead = 2, .memory_bytes = 0, .chunk = 256};

class KeptTuningTest : public ::testing::Test {
 protected:
  void SetUp() override { std::ofstream(options_.model) << "a model"; }
  std::string use(const GivenSettings& given = {}) { return use_kept_tuning(file_, given, options_); }
  void keep(const Tuning& tuning) {
    ASSERT_TRUE(save_tuning(file_, tuning_key(options_.model).value(), tuning).has_value());
  }

  odmoe::testing::TempDir folder_;
  std::filesystem::path file_ = folder_.path() / "kept" / "tuning.json";
  EngineOptions options_{.model = folder_.path() / "model.gguf"};
};

TEST_F(KeptTuningTest, WhatWasKeptIsUsedAndSaid) {
  keep(kTuning);
  EXPECT_EQ(use(), "--threads 1 --lookahead 2 --chunk 256");
  EXPECT_EQ(tuning_of(options_), kTuning);
  EXPECT_EQ(options_.memory.kind, MemoryBudget::Kind::kAuto);
}

TEST_F(KeptTuningTest, WhatAUserGaveStays) {
  keep(kTuning);
  options_.threads = 8;
  EXPECT_EQ(use({.threads = true, .chunk = true}), "--lookahead 2");
  EXPECT_EQ(options_.threads, 8);
  EXPECT_EQ(options_.chunk, EngineOptions().chunk);
}

TEST_F(KeptTuningTest, ABudgetIsUsedWhereThereIsSoMuchMemoryStill) {
  Tuning tuning = kTuning;
  tuning.memory_bytes = uint64_t{64} << 20;
  keep(tuning);
  EXPECT_EQ(use(), "--threads 1 --lookahead 2 --memory 64MiB --chunk 256");
  EXPECT_EQ(options_.memory.bytes, uint64_t{64} << 20);

  options_ = {.model = options_.model};
  tuning.memory_bytes = uint64_t{1} << 49;
  keep(tuning);
  EXPECT_EQ(use(), "--threads 1 --lookahead 2 --chunk 256");
  EXPECT_EQ(options_.memory.kind, MemoryBudget::Kind::kAuto);
}

TEST_F(KeptTuningTest, WhatDoesNotFitThisContextIsNotUsed) {
  options_.model = ODMOE_SOURCE_DIR "/models/demo.gguf";
  Tuning tuning = kTuning;
  tuning.memory_bytes = 1 << 20;
  keep(tuning);
  EXPECT_EQ(use(), "");
  EXPECT_EQ(options_.memory.kind, MemoryBudget::Kind::kAuto);
  EXPECT_EQ(tuning_of(options_), tuning_of({}));
}

TEST_F(KeptTuningTest, AnotherModelInTheSamePlaceIsNotTuned) {
  keep(kTuning);
  std::filesystem::remove(options_.model);
  std::ofstream(options_.model) << "another model";
  EXPECT_EQ(use(), "");
}

TEST_F(KeptTuningTest, WhatMakesNoSenseIsPassedOver) {
  EXPECT_EQ(use(), "") << "no file";
  keep({.threads = 1, .lookahead = 99, .memory_bytes = 0, .chunk = 256});
  EXPECT_EQ(use(), "");
  EXPECT_EQ(tuning_of(options_), tuning_of({}));
  std::ofstream(file_) << "{\"version\": 1, \"tunings\": {\"" << tuning_key(options_.model).value()
                       << "\": 7}}";
  EXPECT_EQ(use(), "");
}

TEST_F(KeptTuningTest, WhatWasForgottenIsNotUsed) {
  keep(kTuning);
  ASSERT_TRUE(forget_tuning(file_, tuning_key(options_.model).value()).has_value());
  EXPECT_EQ(use(), "");
}

TEST(GivenSettings, AreThoseOnTheCommandLine) {
  CLI::App app;
  InferenceOptions options;
  add_inference_options(app, options);
  app.parse("m.gguf --threads 2 --memory 25%");
  const GivenSettings given = given_settings(app);
  EXPECT_TRUE(given.threads);
  EXPECT_TRUE(given.memory);
  EXPECT_FALSE(given.lookahead);
  EXPECT_FALSE(given.chunk);
}

}  // namespace
}  // namespace odmoe::cli
