// odmoe convert as a user runs it: whole, interrupted, killed, on a full drive.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/mount.h>
#endif

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cli/process.h"
#include "temp_dir.h"

extern char** environ;

namespace odmoe::testing::convert_cli_test {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kModel = ODMOE_SOURCE_DIR "/models/demo.gguf";

std::map<std::string, std::string> tree(const fs::path& root) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    files[fs::relative(entry.path(), root).generic_string()] = {std::istreambuf_iterator<char>(in), {}};
  }
  return files;
}

Outcome convert(const fs::path& out, const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"convert", kModel, out.string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return odmoe(arguments);
}

TEST(ConvertCommand, SaysWhatIsRepackedOrThatNothingIs) {
  const TempDir dir;
  const Outcome told = convert(dir / "out", {"--repack", "auto", "--dry-run"});
  EXPECT_EQ(told.exit_code, 0) << told.err;
  EXPECT_THAT(told.out,
              AnyOf(HasSubstr("for this processor's kernels ("), HasSubstr("no expert is repacked")));
  const Outcome made = convert(dir / "out", {"--repack", "auto"});
  EXPECT_EQ(made.exit_code, 0) << made.err;
  const Outcome run = odmoe({"run", (dir / "out").string(), "-p", "In the beginning", "-n", "8", "-t", "1"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const Outcome inspected = odmoe({"inspect", (dir / "out").string()});
  EXPECT_EQ(inspected.out.find("of them repacked") == std::string::npos,
            told.out.find("no expert is repacked") != std::string::npos)
      << inspected.out;
}

TEST(ConvertCommand, RepacksNoFilesOfSingleExperts) {
  const TempDir dir;
  const Outcome refused = convert(dir / "out", {"--repack", "auto", "--layout", "files"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("--repack auto is for --layout packed"));
  EXPECT_FALSE(fs::exists(dir / "out"));
}

TEST(ConvertCommand, MakesOneMachinesShareThatVerifiesAndSaysThatItIsNoModel) {
  const TempDir dir;
  const Outcome made = convert(dir / "share", {"--share", "2/3", "--share-sizes", "2,1,1"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const Outcome verified = odmoe({"convert", "--verify", (dir / "share").string()});
  EXPECT_EQ(verified.exit_code, 0) << verified.err;
  EXPECT_THAT(verified.out, HasSubstr("all 96 experts"));  // a quarter of 6 layers of 64
  const Outcome run = odmoe({"run", (dir / "share").string(), "-p", "A", "-n", "1"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_THAT(run.err, HasSubstr("share 2 of 3"));
  EXPECT_EQ(odmoe({"bench", "fetch", (dir / "share").string()}).exit_code, 2);
  const Outcome again =
      odmoe({"convert", (dir / "share").string(), (dir / "again").string(), "--share", "1/2"});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.err, HasSubstr("convert the whole model"));
}

TEST(ConvertCommand, RefusesSharesThatSayTooLittleOrTooMuch) {
  const TempDir dir;
  EXPECT_THAT(convert(dir / "out", {"--share", "4/3"}).err, HasSubstr("such as 2/3"));
  EXPECT_THAT(convert(dir / "out", {"--share", "1/3", "--share-sizes", "1,1"}).err, HasSubstr("2 numbers"));
  EXPECT_THAT(convert(dir / "out", {"--share-sizes", "1,1"}).err, HasSubstr("--share"));
  EXPECT_FALSE(fs::exists(dir / "out"));
}

TEST(ConvertCommand, MakesADirectoryThatRunsAndVerifies) {
  const TempDir dir;
  const std::vector<std::string> run = {"-p", "In the beginning", "-n", "8", "-t", "1", "--temperature", "0"};
  std::vector<std::string> from_gguf = {"run", kModel};
  from_gguf.insert(from_gguf.end(), run.begin(), run.end());
  const Outcome wanted = odmoe(from_gguf);
  ASSERT_EQ(wanted.exit_code, 0) << wanted.err;
  for (const std::string layout : {"packed", "files"}) {
    const fs::path out = dir / layout;
    const Outcome outcome = convert(out, {"--layout", layout});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr(out.string()));
    std::vector<std::string> from_directory = {"run", out.string(), "--memory", "20%"};
    from_directory.insert(from_directory.end(), run.begin(), run.end());
    EXPECT_EQ(odmoe(from_directory).out, wanted.out);
    EXPECT_EQ(odmoe({"convert", "--verify", out.string()}).exit_code, 0);
    const Outcome inspected = odmoe({"inspect", out.string()});
    EXPECT_EQ(inspected.exit_code, 0) << inspected.err;
    for (const char* shown : {"qwen2moe", "0 to 5", "64 experts of", "weights by type", "one token uses",
                              "least that will do", "tokens/s"}) {
      EXPECT_THAT(inspected.out, HasSubstr(shown));
    }
    EXPECT_EQ(odmoe({"inspect", out.string(), "--all"}).exit_code, 0);
  }
  // What was damaged since is named, on standard output, and the exit code says so.
  {
    std::fstream file(dir / "packed/experts/layer_01.experts",
                      std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-5000, std::ios::end);
    file << "damage";
  }
  const Outcome damaged = odmoe({"convert", "--verify", (dir / "packed").string()});
  EXPECT_EQ(damaged.exit_code, 1);
  EXPECT_THAT(damaged.out, HasSubstr("of layer 1 is damaged"));
  EXPECT_THAT(damaged.err, HasSubstr("damaged sections: 1"));
}

TEST(ConvertCommand, SaysWhatItWouldMakeAndMakesNothing) {
  const TempDir dir;
  const Outcome outcome = convert(dir / "out", {"--dry-run"});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("records in"));
  EXPECT_TRUE(fs::is_empty(dir.path()));
  EXPECT_EQ(odmoe({"convert", kModel, (dir / "out").string(), "--dry-run"}, {.close_output = true}).exit_code,
            141);
}

TEST(ConvertCommand, RefusesWhatMakesNoSense) {
  const TempDir dir;
  const auto expect_error = [](const Outcome& outcome, int exit_code, const std::string& message) {
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1);
    EXPECT_THAT(outcome.out, IsEmpty());
  };
  fs::create_directory(dir / "there");
  expect_error(convert(dir / "there"), 2, "nothing is overwritten");
  expect_error(odmoe({"convert", kModel}), 2, "name the directory to make");
  expect_error(odmoe({"convert", (dir / "none.gguf").string(), (dir / "out").string()}), 1, "no such file");
  expect_error(odmoe({"convert", "--verify", kModel}), 2, "expert directory");
  expect_error(convert(dir / "none" / "out"), 1, "none");
  expect_error(convert(dir / "out", {"--layout", "loose"}), 2, "packed|files");
  EXPECT_FALSE(fs::exists(dir / "out"));
}

// Starts a conversion and sends it a signal when it has written some files; its wait status, or nothing when
// it was faster.
std::optional<int> signalled(const fs::path& out, int signal) {
  std::vector<std::string> words = {ODMOE_PROGRAM, "convert", kModel, out.string(), "--layout", "files"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = -1;
  const int error = posix_spawn(&child, ODMOE_PROGRAM, &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return std::nullopt;
  const fs::path journal = out.string() + ".partial/journal";
  int status = 0;
  while (true) {
    std::error_code ignored;
    const auto bytes = fs::file_size(journal, ignored);
    if (!ignored && bytes > 300) break;  // the first line and some of the others
    if (waitpid(child, &status, WNOHANG) == child) return std::nullopt;
    std::this_thread::yield();
  }
  kill(child, signal);
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
  return status;
}

void expect_resumed_after(int signal, const std::function<void(int status)>& check) {
  const TempDir dir;
  ASSERT_EQ(convert(dir / "whole", {"--layout", "files"}).exit_code, 0);
  const fs::path out = dir / "out";
  std::optional<int> status;
  for (int attempt = 0; attempt < 50 && !status; ++attempt) {
    fs::remove_all(out);
    status = signalled(out, signal);
  }
  ASSERT_TRUE(status.has_value()) << "was always done before the signal";
  check(*status);
  EXPECT_FALSE(fs::exists(out));
  const Outcome outcome = convert(out, {"--layout", "files"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("were there already"));
  EXPECT_TRUE(tree(out) == tree(dir / "whole"));
  EXPECT_FALSE(fs::exists(out.string() + ".partial"));
}

TEST(ConvertCommand, GoesOnAfterAKillWithTheSameBytes) {
  expect_resumed_after(SIGKILL, [](int status) { EXPECT_TRUE(WIFSIGNALED(status)); });
}

TEST(ConvertCommand, EndsWith130OnCtrlCAndGoesOn) {
  expect_resumed_after(SIGINT, [](int status) {
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 130);
  });
}

TEST(ConvertCommand, SurvivesAFullDriveAndGoesOn) {
#ifdef __linux__
  const TempDir dir;
  const fs::path disk = dir / "disk";
  fs::create_directory(disk);
  if (mount("none", disk.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "mounting a small file system takes root";
  }
  // Not enough room is noticed before the first byte; once begun, when the drive is full.
  const Outcome refused = convert(disk / "out");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr("make room or choose another drive"));
  EXPECT_TRUE(fs::is_empty(disk));
  fs::create_directory(disk / "out.partial");
  const Outcome full = convert(disk / "out");
  EXPECT_EQ(full.exit_code, 1);
  EXPECT_THAT(full.err, HasSubstr("make room and run the same command again"));
  EXPECT_FALSE(fs::exists(disk / "out"));
  ASSERT_EQ(mount("none", disk.c_str(), "tmpfs", MS_REMOUNT, "size=64m"), 0);
  const Outcome done = convert(disk / "out");
  EXPECT_EQ(done.exit_code, 0) << done.err;
  ASSERT_EQ(convert(dir / "whole").exit_code, 0);
  EXPECT_TRUE(tree(disk / "out") == tree(dir / "whole"));
  umount(disk.c_str());
#else
  GTEST_SKIP() << "mounts a small file system as Linux does";
#endif
}

}  // namespace
}  // namespace odmoe::testing::convert_cli_test
