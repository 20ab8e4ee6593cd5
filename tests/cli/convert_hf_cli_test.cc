// odmoe convert of a checkpoint of Hugging Face, as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "cli/process.h"
#include "temp_dir.h"

namespace odmoe::testing::convert_hf_cli_test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kCheckpoints = ODMOE_SOURCE_DIR "/tests/data/hf/";

TEST(ConvertHfCommand, WhatItMakesRuns) {
  const TempDir dir;
  const std::string out = (dir / "model").string();
  const Outcome made =
      odmoe({"convert", kCheckpoints + "deepseek-v3", out, "--experts", "Q8_0", "--dense", "bf16"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const Outcome run = odmoe({"run", out, "-p", "ab", "-n", "4", "-t", "1", "--temperature", "0"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const Outcome inspect = odmoe({"inspect", out});
  EXPECT_THAT(inspect.out, AllOf(HasSubstr("deepseek2"), HasSubstr("q8_0"), HasSubstr("bf16")));
}

TEST(ConvertHfCommand, ADryRunSaysWhatIsMadeOtherwise) {
  const TempDir dir;
  const Outcome dry = odmoe(
      {"convert", kCheckpoints + "qwen3moe", (dir / "model").string(), "--experts", "Q4_K", "--dry-run"});
  EXPECT_EQ(dry.exit_code, 0) << dry.err;
  EXPECT_THAT(dry.out, HasSubstr("Q4_K becomes Q5_0 in 6 tensors"));
  EXPECT_FALSE(fs::exists(dir / "model"));
}

TEST(ConvertHfCommand, MistakesAreOneLineThatLeadsOn) {
  const TempDir dir;
  const std::string out = (dir / "model").string();
  const auto refused = [](const std::vector<std::string>& arguments, int exit_code) {
    const Outcome outcome = odmoe(arguments);
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(outcome.err.find('\n'), outcome.err.size() - 1) << outcome.err;
    return outcome.err;
  };
  EXPECT_THAT(refused({"convert", kCheckpoints + "qwen3moe", out, "--experts", "Q9"}, 2),
              AllOf(HasSubstr("'Q9' is not a type"), HasSubstr("Q4_K")));
  EXPECT_THAT(refused({"convert", ODMOE_SOURCE_DIR "/models/demo.gguf", out, "--dense", "Q8_0"}, 2),
              HasSubstr("stays as it is"));
  EXPECT_THAT(refused({"run", kCheckpoints + "qwen3moe", "-p", "x"}, 1), HasSubstr("odmoe convert"));
  EXPECT_THAT(refused({"run", kCheckpoints + "qwen3moe/model.safetensors", "-p", "x"}, 1),
              HasSubstr("odmoe convert"));
  fs::copy(kCheckpoints + "qwen2moe", dir / "cut");
  fs::resize_file(dir / "cut" / "model-00002-of-00003.safetensors", 100000);
  EXPECT_THAT(
      refused({"convert", (dir / "cut").string(), out}, 1),
      AllOf(HasSubstr("model-00002-of-00003.safetensors is cut short"), HasSubstr("download it again")));
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace odmoe::testing::convert_hf_cli_test
