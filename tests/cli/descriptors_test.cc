// Programs that are started without a standard input, output or error, as some supervisors do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/process.h"
#include "temp_dir.h"

namespace odmoe::testing::descriptors_test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Arguments = std::vector<std::string>;

const std::string kModel = ODMOE_SOURCE_DIR "/models/demo.gguf";
const std::vector<std::vector<int>> kClosings = {{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}};

Arguments run(const std::string& model, const Arguments& more) {
  Arguments arguments = {"run", model, "-t", "1", "-n", "8", "-c", "256", "--temperature", "0"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool has(const std::vector<int>& closed, int descriptor) {
  return std::ranges::find(closed, descriptor) != closed.end();
}

TEST(StandardDescriptors, WhatIsNotUsedIsNotMissed) {
  const std::string text = odmoe(run(kModel, {"-p", "In the beginning"})).out;
  ASSERT_FALSE(text.empty());
  for (const std::vector<int>& closed : kClosings) {
    const Outcome outcome = odmoe(run(kModel, {"-p", "In the beginning"}), {.closed = closed});
    if (has(closed, 1)) {
      EXPECT_EQ(outcome.exit_code, 1);
      EXPECT_THAT(outcome.out, IsEmpty());
    } else {
      EXPECT_EQ(outcome.exit_code, 0);
      EXPECT_EQ(outcome.out, text);
    }
    if (has(closed, 1) && !has(closed, 2)) {
      EXPECT_EQ(outcome.err, "odmoe: cannot write to standard output: it is closed\n");
    } else {
      EXPECT_THAT(outcome.err, IsEmpty());
    }
  }
}

TEST(StandardDescriptors, AnInputThatIsClosedCannotBeReadFrom) {
  for (const Arguments& arguments : {run(kModel, {}), run(kModel, {"-p", "-"}), run(kModel, {"--chat"})}) {
    for (const std::vector<int>& closed : kClosings) {
      if (!has(closed, 0)) continue;
      const Outcome outcome = odmoe(arguments, {.closed = closed});
      EXPECT_EQ(outcome.exit_code, 1);
      if (!has(closed, 2)) {
        EXPECT_EQ(outcome.err, "odmoe: cannot read standard input: it is closed\n");
      }
    }
  }
}

TEST(StandardDescriptors, AnOutputThatIsClosedIsAnErrorOfEveryCommandThatWrites) {
  for (const Arguments& arguments : {Arguments{"--help"},
                                     {"--version"},
                                     {"run", "--help"},
                                     {"man"},
                                     {"models"},
                                     {"completion", "bash"},
                                     {"inspect", kModel}}) {
    for (const std::vector<int>& closed : kClosings) {
      const Outcome outcome = odmoe(arguments, {.closed = closed});
      EXPECT_EQ(outcome.exit_code, has(closed, 1) ? 1 : 0) << arguments.front();
      if (has(closed, 1) && !has(closed, 2)) {
        EXPECT_THAT(outcome.err, HasSubstr("standard output")) << arguments.front();
      }
    }
  }
}

TEST(StandardDescriptors, NothingThatIsWrittenLandsInAFileOfTheProgramsOwn) {
  const TempDir dir;
  const std::string model = (dir / "model.gguf").string(), stats = (dir / "stats.json").string();
  std::filesystem::copy_file(kModel, model);
  const std::string bytes = read(model);
  for (const std::vector<int>& closed : kClosings) {
    std::filesystem::remove(stats);
    odmoe(run(model, {"-p", "x", "--verbose", "--log-level", "debug", "--stats", stats}), {.closed = closed});
    EXPECT_EQ(read(model), bytes);
    const std::string written = read(stats);
    EXPECT_TRUE(written.empty() || nlohmann::json::accept(written)) << written;
  }
}

TEST(StandardDescriptors, HelpThatCannotBeWrittenIsAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full on this system";
  for (const Arguments& arguments : {Arguments{"--help"}, {"--version"}, {"run", "--help"}}) {
    const Outcome outcome = odmoe(arguments, {.output_file = "/dev/full"});
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.err, HasSubstr("standard output"));
  }
  EXPECT_EQ(odmoe({"--help"}, {.close_output = true}).exit_code, 141);
}

}  // namespace
}  // namespace odmoe::testing::descriptors_test
