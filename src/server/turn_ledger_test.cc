#include "server/turn_ledger.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "temp_dir.h"

namespace odmoe::server {
namespace {

using LedgerText = std::vector<Token>;
using Stretches = std::vector<Division::Stretch>;

constexpr int32_t kLedgerChunk = 4;

LedgerText ledger_words(Token first, int32_t n) {
  LedgerText tokens(static_cast<size_t>(n));
  for (int32_t i = 0; i < n; ++i) tokens[static_cast<size_t>(i)] = first + i;
  return tokens;
}

LedgerText operator+(LedgerText a, const LedgerText& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Stretches stretches_of(const Division& division) {
  return {division.stretches().begin(), division.stretches().end()};
}

TurnLedgerOptions ledger_of(uint64_t bytes = 1 << 20) {
  return {.chunk = kLedgerChunk, .memory_bytes = bytes};
}

class TurnLedgerTest : public ::testing::Test {
 protected:
  Stretches divided(const LedgerText& prompt, std::string_view owner = "") {
    return stretches_of(ledger_->divide(owner, prompt).division);
  }
  // A prompt is asked, and this is written after it.
  Stretches turn(const LedgerText& prompt, const LedgerText& written, std::string_view owner = "") {
    const TurnLedger::Place place = ledger_->divide(owner, prompt);
    ledger_->wrote(place, written);
    return stretches_of(place.division);
  }
  std::unique_ptr<TurnLedger> ledger_ = std::make_unique<TurnLedger>(ledger_of());
};

TEST_F(TurnLedgerTest, AnUnknownPromptIsDividedInChunks) {
  EXPECT_EQ(divided(ledger_words(1, 10)), (Stretches{{.end = 10}}));
  EXPECT_EQ(divided({5}), (Stretches{{.end = 1}}));
}

TEST_F(TurnLedgerTest, WhatWasWrittenIsDividedIntoSingleTokens) {
  const LedgerText first = ledger_words(1, 10), answer = ledger_words(100, 5),
                   second = first + answer + ledger_words(50, 9);
  EXPECT_EQ(turn(first, answer), (Stretches{{.end = 10}}));
  EXPECT_EQ(turn(second, ledger_words(200, 3)),
            (Stretches{{.end = 10}, {.end = 15, .singly = true}, {.end = 24}}));
  EXPECT_EQ(
      divided(second + ledger_words(200, 3) + ledger_words(60, 2)),
      (Stretches{
          {.end = 10}, {.end = 15, .singly = true}, {.end = 24}, {.end = 27, .singly = true}, {.end = 29}}));
}

TEST_F(TurnLedgerTest, AnAnswerThatComesBackInPartIsThatPart) {
  const LedgerText first = ledger_words(1, 10), answer = ledger_words(100, 5);
  turn(first, answer);
  EXPECT_EQ(divided(first + ledger_words(100, 3) + ledger_words(70, 4)),
            (Stretches{{.end = 10}, {.end = 13, .singly = true}, {.end = 17}}));
  EXPECT_EQ(divided(first + ledger_words(100, 3)), (Stretches{{.end = 10}, {.end = 13, .singly = true}}));
  EXPECT_EQ(divided(first + answer), (Stretches{{.end = 10}, {.end = 15, .singly = true}}));
}

TEST_F(TurnLedgerTest, APromptThatMerelyBeginsAsAnotherIsNotDividedWhereThatEnds) {
  turn(ledger_words(1, 10), ledger_words(100, 5));
  EXPECT_EQ(divided(ledger_words(1, 20)), (Stretches{{.end = 20}}));
  EXPECT_EQ(divided(ledger_words(1, 9)), (Stretches{{.end = 9}}));
}

TEST_F(TurnLedgerTest, OfSeveralAnswersTheOneIsGoneOnFromOfWhichThereIsMost) {
  const LedgerText first = ledger_words(1, 10);
  turn(first, ledger_words(100, 5));
  turn(first, ledger_words(100, 2) + ledger_words(300, 6));
  turn(first, ledger_words(400, 5));
  EXPECT_EQ(divided(first + ledger_words(100, 2) + ledger_words(300, 6) + ledger_words(70, 4)),
            (Stretches{{.end = 10}, {.end = 18, .singly = true}, {.end = 22}}));
  EXPECT_EQ(divided(first + ledger_words(100, 5) + ledger_words(70, 4)),
            (Stretches{{.end = 10}, {.end = 15, .singly = true}, {.end = 19}}));
  EXPECT_EQ(divided(first + ledger_words(400, 5) + ledger_words(70, 4)),
            (Stretches{{.end = 10}, {.end = 15, .singly = true}, {.end = 19}}));
}

TEST_F(TurnLedgerTest, APromptIsDividedAsTheFirstTime) {
  const LedgerText first = ledger_words(1, 10), answer = ledger_words(100, 5),
                   second = first + answer + ledger_words(50, 9);
  EXPECT_EQ(divided(second), (Stretches{{.end = 24}})) << "as text that somebody else wrote";
  turn(first, answer);
  EXPECT_EQ(turn(second, ledger_words(200, 3)), (Stretches{{.end = 24}}))
      << "though it is known now what it is";
  EXPECT_EQ(divided(second + ledger_words(200, 3) + ledger_words(60, 2)),
            (Stretches{{.end = 24}, {.end = 27, .singly = true}, {.end = 29}}));
  EXPECT_EQ(divided(first + answer + ledger_words(51, 9)),
            (Stretches{{.end = 10}, {.end = 15, .singly = true}, {.end = 24}}));
}

TEST_F(TurnLedgerTest, KnowsNothingOfOtherOwners) {
  const LedgerText first = ledger_words(1, 10), answer = ledger_words(100, 5),
                   second = first + answer + ledger_words(50, 9);
  turn(first, answer, "anna");
  EXPECT_EQ(divided(second, "bert"), (Stretches{{.end = 24}}));
  EXPECT_EQ(divided(second, ""), (Stretches{{.end = 24}}));
  EXPECT_EQ(divided(second, "anna"), (Stretches{{.end = 10}, {.end = 15, .singly = true}, {.end = 24}}));
}

TEST_F(TurnLedgerTest, ForgetsWhatWasUsedLongestAgo) {
  ledger_ = std::make_unique<TurnLedger>(ledger_of(4000));
  const auto first = [](int32_t i) { return ledger_words(1000 * i, 10); };
  const auto second = [&](int32_t i) { return first(i) + ledger_words(7, 20) + ledger_words(50, 3); };
  const Stretches remembered{{.end = 10}, {.end = 30, .singly = true}, {.end = 33}};
  for (int32_t i = 1; i <= 40; ++i) {
    turn(first(i), ledger_words(7, 20));
    EXPECT_LE(ledger_->stats().memory_bytes, 4000U);
    if (i % 4 == 0) {
      EXPECT_EQ(divided(first(1)), (Stretches{{.end = 10}}));
    }
  }
  EXPECT_EQ(divided(second(40)), remembered);
  EXPECT_EQ(divided(second(1)), remembered) << "it was asked for again and again";
  EXPECT_EQ(divided(second(3)), (Stretches{{.end = 33}}));
  EXPECT_LT(ledger_->stats().prompts, 30U);
}

TEST_F(TurnLedgerTest, OfOnePromptABoundedNumberOfAnswersIsKept) {
  for (Token i = 0; i < 1000; ++i) turn(ledger_words(1, 10), {i, 5});
  const uint64_t bytes = ledger_->stats().memory_bytes;
  for (Token i = 1000; i < 2000; ++i) turn(ledger_words(1, 10), {i, 5});
  EXPECT_EQ(ledger_->stats().memory_bytes, bytes);
  EXPECT_EQ(divided(ledger_words(1, 10) + LedgerText{1999, 5, 8, 9}),
            (Stretches{{.end = 10}, {.end = 12, .singly = true}, {.end = 14}}));
}

class TurnLedgerFile : public TurnLedgerTest {
 protected:
  TurnLedgerOptions options(const std::string& identity = "a model") const {
    return {.chunk = kLedgerChunk,
            .memory_bytes = 1 << 20,
            .file = TurnLedger::file_in(directory_.path(), identity),
            .identity = identity};
  }
  void restart(const std::string& identity = "a model") {
    ledger_.reset();
    ledger_ = std::make_unique<TurnLedger>(options(identity));
  }
  void SetUp() override { restart(); }
  const LedgerText first_ = ledger_words(1, 10), answer_ = ledger_words(100, 5),
                   second_ = first_ + answer_ + ledger_words(50, 9);
  const Stretches had_{{.end = 10}, {.end = 15, .singly = true}, {.end = 24}};
  odmoe::testing::TempDir directory_;
};

TEST_F(TurnLedgerFile, OutlivesTheProcess) {
  turn(first_, answer_);
  turn(second_, {});
  turn(ledger_words(500, 10), ledger_words(3, 2), "anna");
  for (int i = 0; i < 3; ++i) {
    restart();
    EXPECT_EQ(divided(second_), had_);
    EXPECT_EQ(divided(ledger_words(500, 10) + ledger_words(3, 2) + ledger_words(9, 1), "anna"),
              (Stretches{{.end = 10}, {.end = 12, .singly = true}, {.end = 13}}));
  }
}

TEST_F(TurnLedgerFile, IsOfOneModel) {
  turn(first_, answer_);
  restart("another");
  EXPECT_EQ(divided(second_), (Stretches{{.end = 24}}));
  restart();
  EXPECT_EQ(divided(second_), had_);
}

TEST_F(TurnLedgerFile, ThatIsDamagedIsReadUpToThere) {
  turn(first_, answer_);
  const auto path = options().file;
  const auto sound = std::filesystem::file_size(path);
  turn(ledger_words(500, 10), ledger_words(3, 2));
  const auto size = std::filesystem::file_size(path);
  for (const auto cut : {size - 1, sound + 1, size}) {
    ledger_.reset();
    const auto copy = path.string() + ".copy";
    std::filesystem::copy_file(path, copy, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(path, cut);
    if (cut == size) {
      std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
      file.seekp(static_cast<std::streamoff>(size) - 1);
      file.put('!');
    }
    restart();
    EXPECT_EQ(divided(second_), had_);
    EXPECT_EQ(divided(ledger_words(500, 10) + ledger_words(3, 2) + ledger_words(9, 1)),
              (Stretches{{.end = 13}}));
    turn(ledger_words(700, 10), ledger_words(3, 2));
    restart();
    EXPECT_EQ(divided(ledger_words(700, 10) + ledger_words(3, 2) + ledger_words(9, 1)),
              (Stretches{{.end = 10}, {.end = 12, .singly = true}, {.end = 13}}))
        << "what comes later is kept";
    ledger_.reset();
    std::filesystem::rename(copy, path);
  }
  std::ofstream(path) << "something else altogether, of which nothing is known";
  restart();
  EXPECT_EQ(divided(second_), (Stretches{{.end = 24}}));
}

TEST_F(TurnLedgerFile, OfAnotherProcessIsReadAndNotWritten) {
  turn(first_, answer_);
  TurnLedger other(options());
  EXPECT_EQ(stretches_of(other.divide("", second_).division), had_);
  other.wrote(other.divide("", ledger_words(500, 10)), ledger_words(3, 2));
  restart();
  EXPECT_EQ(divided(ledger_words(500, 10) + ledger_words(3, 2) + ledger_words(9, 1)),
            (Stretches{{.end = 13}}));
}

TEST_F(TurnLedgerFile, DoesNotGrowForEver) {
  TurnLedgerOptions small = options();
  small.memory_bytes = 2000;
  ledger_.reset();
  ledger_ = std::make_unique<TurnLedger>(small);
  for (Token i = 0; i < 300; ++i) {
    turn(ledger_words(1000 * i, 10), ledger_words(7, 20));
    EXPECT_LE(std::filesystem::file_size(small.file), 3 * small.memory_bytes);
  }
  ledger_.reset();
  ledger_ = std::make_unique<TurnLedger>(small);
  EXPECT_EQ(divided(ledger_words(299'000, 10) + ledger_words(7, 20) + ledger_words(50, 3)),
            (Stretches{{.end = 10}, {.end = 30, .singly = true}, {.end = 33}}));
}

TEST_F(TurnLedgerFile, IsItsOwnersAlone) {
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(options().file).permissions(), perms::owner_read | perms::owner_write);
}

TEST_F(TurnLedgerFile, OfManyModelsTheLastAreLeft) {
  for (int i = 0; i < 30; ++i) restart("model " + std::to_string(i));
  size_t n = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory_.path())) {
    n += file.path().extension() == ".odmoe-turns" ? 1 : 0;
  }
  EXPECT_LE(n, 17U);
}

}  // namespace
}  // namespace odmoe::server
