#include "server/batch/batch_output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "odmoe/format.h"
#include "server/batch/line_file.h"
#include "temp_dir.h"

namespace odmoe::server {
namespace {

using ::testing::HasSubstr;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class BatchOutputTest : public ::testing::Test {
 protected:
  static constexpr size_t kRequests = 12;
  BatchOutputTest() {
    std::string text;
    for (size_t i = 0; i < kRequests; ++i) {
      text += odmoe::format(R"({{"custom_id":"{}","method":"POST","url":"/v1/completions","body":{{}}}})", i);
      text += "\n";
    }
    input_ = std::make_unique<BatchInput>(BatchInput::open(dir_.write("in.jsonl", text)).value());
  }
  BatchOutput open(std::string_view identity = "me") {
    return BatchOutput::open(out_, *input_, identity, 1000).value();
  }
  std::string answer(size_t place) const {
    return odmoe::format("{}\"text\":\"{}\"}}", batch_line_beginning(input_->id(place).value()),
                         std::string(place * 7, 'x'));
  }
  std::string answers(size_t n) const {
    std::string text;
    for (size_t i = 0; i < n; ++i) text += answer(i) + "\n";
    return text;
  }
  BatchState state() const { return batch_state(out_, *input_).value(); }

  odmoe::testing::TempDir dir_;
  std::filesystem::path out_ = dir_ / "out.jsonl", progress_ = dir_ / "out.jsonl.progress";
  std::unique_ptr<BatchInput> input_;
};

TEST_F(BatchOutputTest, AnswersStandInTheOrderOfTheirRequests) {
  EXPECT_EQ(state(), BatchState::kNew);
  BatchOutput output = open();
  EXPECT_EQ(output.begun(), 1000);
  for (const size_t place : {2, 0, 3, 5, 1}) ASSERT_TRUE(output.put(place, answer(place)).has_value());
  EXPECT_EQ(contents(out_), answers(4)) << "as soon as it is their turn";
  EXPECT_EQ(output.n_done(), 5U);
  EXPECT_TRUE(output.is_done(5));
  EXPECT_FALSE(output.is_done(4));
  EXPECT_EQ(state(), BatchState::kUnfinished);
  for (const size_t place : {4, 11, 10, 9, 8, 7, 6})
    ASSERT_TRUE(output.put(place, answer(place)).has_value());
  ASSERT_TRUE(output.finish().has_value());
  EXPECT_EQ(contents(out_), answers(kRequests));
  EXPECT_FALSE(std::filesystem::exists(progress_));
  EXPECT_EQ(state(), BatchState::kComplete);
}

TEST_F(BatchOutputTest, GoesOnFromAnyByteThatAnEndLeft) {
  std::vector<size_t> order(kRequests);
  std::ranges::iota(order, size_t{0});
  std::minstd_rand random(7);
  for (int round = 0; round < 40; ++round) {
    std::filesystem::remove(out_);
    std::filesystem::remove(progress_);
    std::ranges::shuffle(order, random);
    for (size_t at = 0; at < kRequests;) {
      {
        BatchOutput output = open();
        EXPECT_EQ(output.begun(), 1000);
        at = output.n_done();
        size_t left = 1 + random() % 4;
        for (const size_t place : order) {
          if (output.is_done(place)) continue;
          ASSERT_TRUE(output.put(place, answer(place)).has_value());
          ++at;
          if (--left == 0) break;
        }
        if (at == kRequests) {
          ASSERT_TRUE(output.finish().has_value());
        }
      }
      if (at == kRequests) break;
      // As a kill in the middle of a write, or a loss of power, leaves them.
      for (const auto& path : {out_, progress_}) {
        const std::string whole = contents(path);
        const size_t first = path == progress_ ? whole.find('\n') + 1 : 0;
        const size_t lost = std::min<size_t>(random() % 30, whole.size() - first);
        std::ofstream(path, std::ios::binary) << whole.substr(0, whole.size() - lost);
        if (random() % 3 == 0) std::ofstream(path, std::ios::binary | std::ios::app) << std::string(9, '\0');
      }
    }
    EXPECT_EQ(contents(out_), answers(kRequests));
    EXPECT_FALSE(std::filesystem::exists(progress_));
  }
}

TEST_F(BatchOutputTest, AFirstLineThatWasCutShortIsABeginning) {
  dir_.write("out.jsonl.progress", "{\"odmoe_ba");
  BatchOutput output = open();
  ASSERT_TRUE(output.put(0, answer(0)).has_value());
  EXPECT_EQ(contents(out_), answers(1));
}

TEST_F(BatchOutputTest, KeepsWhenTheBatchWasBegun) {
  (void)open();
  EXPECT_EQ(BatchOutput::open(out_, *input_, "me", 2000)->begun(), 1000);
}

TEST_F(BatchOutputTest, WhatIsOfAnotherBatchIsRefused) {
  (void)open();
  const auto other = BatchOutput::open(out_, *input_, "another", 1000);
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(other.error().message, HasSubstr(progress_.string()));
}

TEST_F(BatchOutputTest, AFileThatIsThereIsNotOverwritten) {
  dir_.write("out.jsonl", "precious\n");
  const auto there = batch_state(out_, *input_);
  ASSERT_FALSE(there.has_value());
  EXPECT_EQ(there.error().kind, ErrorKind::kUsage);
  dir_.write("out.jsonl", answers(kRequests - 1));
  EXPECT_FALSE(batch_state(out_, *input_).has_value());
  dir_.write("out.jsonl", answers(kRequests) + "more\n");
  EXPECT_FALSE(batch_state(out_, *input_).has_value());
  dir_.write("out.jsonl", answers(kRequests));
  EXPECT_EQ(state(), BatchState::kComplete);
}

TEST_F(BatchOutputTest, TwoProcessesDoNotWriteOne) {
  const BatchOutput output = open();
  const auto second = BatchOutput::open(out_, *input_, "me", 1000);  // another description of the file
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().kind, ErrorKind::kUsage);
}

// A drive that is full takes a part of a line.
TEST_F(BatchOutputTest, AFullDriveLeavesWholeLinesAndIsSaid) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  BatchOutput output = open();
  ASSERT_TRUE(output.put(0, answer(0)).has_value());
  ASSERT_TRUE(output.put(3, answer(3)).has_value());
  const rlimit full{.rlim_cur = contents(progress_).size() + 10, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &full), 0);
  const Status ahead = output.put(5, answer(5));
  const std::string progress = contents(progress_);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old);
  ASSERT_FALSE(ahead.has_value());
  EXPECT_EQ(ahead.error().kind, ErrorKind::kIo);
  EXPECT_THAT(ahead.error().message, HasSubstr("run the same command again"));
  EXPECT_TRUE(progress.ends_with("\n")) << progress;
  EXPECT_FALSE(output.is_done(5));
  ASSERT_TRUE(output.put(5, answer(5)).has_value()) << "once there is room";
  for (const size_t place : {1, 2, 4}) ASSERT_TRUE(output.put(place, answer(place)).has_value());
  EXPECT_EQ(contents(out_), answers(6));
}

TEST_F(BatchOutputTest, WhatIsThereCanBeReadBeforeAllIs) {
  const auto failed = [&](size_t place, const char* response) {
    return odmoe::format("{}\"custom_id\":\"x,\\\"response\\\":null\",\"response\":{}}}",
                         batch_line_beginning(input_->id(place).value()), response);
  };
  const std::string good = failed(0, R"({"status_code":200,"body":{}})");
  EXPECT_FALSE(is_failed_answer(good)) << "what is in a text is not a member";
  {
    BatchOutput output = open();
    ASSERT_TRUE(output.put(0, good).has_value());
    ASSERT_TRUE(output.put(5, failed(5, "null")).has_value());
    ASSERT_TRUE(output.put(3, failed(3, R"({"status_code":400,"body":{}})")).has_value());
  }
  for (int i = 0; i < 2; ++i) {
    BatchOutput output = i == 0 ? open() : BatchOutput::open(out_, *input_, {}, 1).value();
    EXPECT_EQ(output.n_done(), 3U);
    EXPECT_EQ(output.n_failed(), 2U);
    std::vector<std::string> lines;
    ASSERT_TRUE(output
                    .each_answer([&](std::string_view line) -> Status {
                      lines.emplace_back(line);
                      return {};
                    })
                    .has_value());
    EXPECT_EQ(lines, (std::vector<std::string>{good, failed(3, R"({"status_code":400,"body":{}})"),
                                               failed(5, "null")}));
  }
}

TEST_F(BatchOutputTest, WhatIsAheadHasToAnswerARequest) {
  {
    BatchOutput output = open();
    ASSERT_TRUE(output.put(3, answer(3)).has_value());
  }
  const std::string whole = contents(progress_);
  for (const std::string& entry :
       {odmoe::format("{} {}", kRequests, answer(0)), "4 " + answer(5), std::string("4 {}"), answer(4)}) {
    std::ofstream(progress_, std::ios::binary)
        << whole << checked_line(entry) << checked_line("5 " + answer(5));
    EXPECT_EQ(open().n_done(), 1U) << entry;
    EXPECT_EQ(contents(progress_), whole) << "nor does what follows it count";
  }
  std::ofstream(progress_, std::ios::binary) << whole << checked_line("5 " + answer(5));
  EXPECT_EQ(open().n_done(), 2U);
}

}  // namespace
}  // namespace odmoe::server
