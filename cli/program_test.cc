// What the parser makes of command lines; what the commands do is tested through the program itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/run_options.h"

namespace odmoe::cli {
namespace {

using ::testing::ElementsAre;

RunOptions parse(std::vector<std::string> arguments) {
  RunOptions options;
  CLI::App app;
  add_run_options(app, options);
  std::ranges::reverse(arguments);  // as CLI11 takes them
  app.parse(arguments);
  return options;
}

TEST(RunOptions, ReachTheStructsThatTheEngineTakes) {
  const RunOptions options = parse({"m.gguf",    "-p",
                                    "Once",      "-n",
                                    "12",        "--memory",
                                    "25%",       "-c",
                                    "512",       "--context-overflow",
                                    "shift",     "--keep",
                                    "3",         "--cache-type",
                                    "q8_0",      "--flash-attention",
                                    "off",       "-t",
                                    "2",         "--chunk",
                                    "64",        "--reader",
                                    "pread",     "--read-depth",
                                    "4",         "--temperature",
                                    "0.5",       "--top-k",
                                    "5",         "--top-p",
                                    "0.5",       "--min-p",
                                    "0.1",       "--repetition-penalty",
                                    "1.1",       "--presence-penalty",
                                    "-0.5",      "--frequency-penalty",
                                    "0.25",      "--penalty-last-n",
                                    "-1",        "--seed",
                                    "7",         "--ignore-eos",
                                    "--mirror",  "/a/m.gguf",
                                    "--mirror",  "/b",
                                    "--stats",   "s.json",
                                    "--verbose", "--echo"});
  const EngineOptions& engine = options.inference.engine;
  EXPECT_EQ(engine.model, "m.gguf");
  EXPECT_EQ(engine.memory.kind, MemoryBudget::Kind::kExpertPercent);
  EXPECT_EQ(engine.memory.percent, 25);
  EXPECT_EQ(engine.context, 512);
  EXPECT_EQ(engine.cache_type, CacheType::kQ8_0);
  EXPECT_EQ(engine.flash_attention, FlashAttention::kOff);
  EXPECT_EQ(engine.threads, 2);
  EXPECT_EQ(engine.chunk, 64);
  EXPECT_EQ(engine.reader, ReaderChoice::kPread);
  EXPECT_EQ(engine.read_depth, 4);
  EXPECT_THAT(engine.mirrors, ElementsAre("/a/m.gguf", "/b"));
  EXPECT_EQ(options.inference.stats_file, "s.json");
  EXPECT_TRUE(options.inference.verbose);

  const GenerateOptions& generate = options.generate;
  EXPECT_EQ(generate.max_tokens, 12);
  EXPECT_EQ(generate.context_overflow, ContextOverflow::kShift);
  EXPECT_EQ(generate.keep, 3);
  EXPECT_TRUE(generate.ignore_eos);
  EXPECT_EQ(generate.sampling.temperature, 0.5F);
  EXPECT_EQ(generate.sampling.top_k, 5);
  EXPECT_EQ(generate.sampling.top_p, 0.5F);
  EXPECT_EQ(generate.sampling.min_p, 0.1F);
  EXPECT_EQ(generate.sampling.repetition_penalty, 1.1F);
  EXPECT_EQ(generate.sampling.presence_penalty, -0.5F);
  EXPECT_EQ(generate.sampling.frequency_penalty, 0.25F);
  EXPECT_EQ(generate.sampling.penalty_last_n, -1);
  EXPECT_EQ(options.seed, 7U);
  EXPECT_TRUE(options.echo);
}

TEST(RunOptions, DefaultsAreThoseOfTheStructs) {
  const RunOptions options = parse({"m.gguf"});
  EXPECT_EQ(options.inference.engine.cache_type, EngineOptions{}.cache_type);
  EXPECT_EQ(options.inference.engine.context, EngineOptions{}.context);
  EXPECT_EQ(options.generate.max_tokens, GenerateOptions{}.max_tokens);
  EXPECT_EQ(options.generate.sampling.temperature, SamplingOptions{}.temperature);
  EXPECT_FALSE(options.prompt.has_value());
  EXPECT_FALSE(options.seed.has_value());
}

TEST(RunOptions, DrivesAreKeptInTheUsersCacheUnlessNothingIsToBeTriedOut) {
  ASSERT_EQ(setenv("XDG_CACHE_HOME", "/somewhere", 1), 0);
  EXPECT_EQ(parse({"m.gguf"}).inference.engine.drive_file, "/somewhere/odmoe/drives.json");
  EXPECT_EQ(parse({"m.gguf", "--no-probe"}).inference.engine.drive_file, "");
  EXPECT_EQ(parse({"m.gguf"}).inference.engine.prefetching_file, "/somewhere/odmoe/prefetching.json");
  EXPECT_EQ(parse({"m.gguf", "--no-probe"}).inference.engine.prefetching_file, "");
  EXPECT_EQ(parse({"m.gguf"}).inference.engine.device_file, "/somewhere/odmoe/devices.json");
  EXPECT_EQ(parse({"m.gguf", "--no-probe"}).inference.engine.device_file, "");
  ASSERT_EQ(setenv("XDG_CACHE_HOME", "not/absolute", 1), 0);  // is as good as none
  ASSERT_EQ(setenv("HOME", "/home/one", 1), 0);
  EXPECT_TRUE(parse({"m.gguf"}).inference.engine.drive_file.string().starts_with("/home/one/"));
  ASSERT_EQ(unsetenv("HOME"), 0);
  EXPECT_EQ(parse({"m.gguf"}).inference.engine.drive_file, "");
}

TEST(RunOptions, FreeMemoryIsFilledWhenAskedFor) {
  EXPECT_FALSE(parse({"m.gguf"}).inference.engine.fill);
  EXPECT_TRUE(parse({"m.gguf", "--fill"}).inference.engine.fill);
}

TEST(RunOptions, TextsAreTakenAsTheyAre) {
  for (const std::string text :
       {"-", "--help me", "-1", "[a,b]", "\"quoted\"", "'x'", "a\\nb", "{}", "", " ", "%%"}) {
    const RunOptions options = parse({"m.gguf", "-p", text, "--stop", text, "--stop", "second"});
    EXPECT_EQ(options.prompt, text);
    EXPECT_THAT(options.generate.stop, ElementsAre(text, "second"));
  }
}

TEST(RunOptions, AStopStringDoesNotSwallowTheModel) {
  EXPECT_EQ(parse({"--stop", "x", "m.gguf"}).inference.engine.model, "m.gguf");
}

TEST(RunOptions, RefuseWhatMakesNoSense) {
  EXPECT_THROW(parse({}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "--memory", "much"}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "--cache-type", "q4"}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "-n", "many"}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "-n", "-2"}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "--seed", "-1"}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "-p", "x", "-f", "y"}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "--chat", "--echo"}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "--system", "x"}), CLI::ParseError);
  EXPECT_THROW(parse({"m", "other"}), CLI::ParseError);
}

}  // namespace
}  // namespace odmoe::cli
