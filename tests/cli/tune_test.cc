// `odmoe tune`, and what `run` makes of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/process.h"
#include "temp_dir.h"

namespace odmoe::testing::tune_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

const std::string kDemo = ODMOE_SOURCE_DIR "/models/demo.gguf";

// With a cache folder of its own.
class Tune : public ::testing::Test {
 protected:
  Tune() {
    if (const char* const folder = std::getenv("XDG_CACHE_HOME")) before_ = folder;
    setenv("XDG_CACHE_HOME", dir_.path().c_str(), 1);
  }
  ~Tune() override { before_ ? setenv("XDG_CACHE_HOME", before_->c_str(), 1) : unsetenv("XDG_CACHE_HOME"); }

  Outcome tune(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"tune", kDemo, "--memory", "25%", "--seconds", "10"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return odmoe(arguments);
  }
  std::string said_by_run(std::vector<std::string> more) const {
    std::vector<std::string> arguments = {"run", kDemo, "-p", "KING", "-n", "2", "--verbose"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = odmoe(arguments);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return outcome.err;
  }
  // As if it had been found.
  void keep(int threads, int chunk) const {
    ASSERT_EQ(tune({"--threads", "1", "--lookahead", "3", "--chunk", "512"}).exit_code, 0);
    const std::filesystem::path file = dir_ / "odmoe/tuning.json";
    Json kept = Json::parse(std::ifstream(file));
    for (Json& entry : kept["tunings"]) {
      entry["threads"] = threads;
      entry["chunk"] = chunk;
    }
    std::ofstream(file) << kept;
  }

  TempDir dir_;
  std::optional<std::string> before_;
};

TEST_F(Tune, WhatIsKeptIsTheBestOfWhatWasTried) {
  const Outcome outcome = tune({"--json", "--prompt-tokens", "64", "--answer-tokens", "32"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json report = Json::parse(outcome.out);
  ASSERT_FALSE(report["trials"].empty());
  Json best = report["before"];
  for (const Json& trial : report["trials"]) {
    if (trial["outcome"] != "kept") continue;
    const std::string setting = trial["setting"];
    best[setting == "memory" ? "memory_bytes" : setting] = trial["value"];
    EXPECT_GE(trial["runs"].size(), 2U);
  }
  EXPECT_EQ(report["kept"], best);
  EXPECT_EQ(Json::parse(std::ifstream(dir_ / "odmoe/tuning.json"))["tunings"].size(), 1U);
}

TEST_F(Tune, WhatIsGivenIsNotTuned) {
  const Outcome outcome = tune({"--json", "--threads", "1", "--lookahead", "3", "--chunk", "512"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out)["trials"], Json::array());
}

TEST_F(Tune, WhatIsGivenIsForThatRunAlone) {
  ASSERT_EQ(tune({"--threads", "1", "--lookahead", "2", "--chunk", "128"}).exit_code, 0);
  EXPECT_THAT(said_by_run({}), Not(HasSubstr("odmoe tune")));
}

TEST_F(Tune, RunUsesWhatIsKeptUnlessTheUserSaysOtherwise) {
  keep(1, 256);
  EXPECT_THAT(said_by_run({}), HasSubstr("as odmoe tune found: --threads 1 --chunk 256\n"));
  EXPECT_THAT(said_by_run({"--threads", "2"}), HasSubstr("as odmoe tune found: --chunk 256\n"));
  EXPECT_THAT(said_by_run({"--no-probe"}), Not(HasSubstr("odmoe tune")));
  ASSERT_EQ(tune({"--forget"}).exit_code, 0);
  EXPECT_THAT(said_by_run({}), Not(HasSubstr("odmoe tune")));
}

TEST_F(Tune, SaysWhereItHasNowhereToKeepWhatItFinds) {
  const Outcome outcome = tune({"--no-probe"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("nowhere to keep what is found"));
}

TEST_F(Tune, SaysThatAnAnswerDoesNotFitTheContext) {
  const Outcome outcome = tune({"--context", "64", "--answer-tokens", "64"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("does not fit the context of 64"));
}

TEST_F(Tune, AModelThatIsNotThereIsOneLine) {
  const Outcome outcome = odmoe({"tune", "/nowhere/model.gguf"});
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("/nowhere/model.gguf"));
}

}  // namespace
}  // namespace odmoe::testing::tune_test
