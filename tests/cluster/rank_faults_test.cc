// Ranks that cannot take part, that fail, hang or go: an error that names them, and nothing wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <future>

#include "io/fake_reader.h"
#include "tests/cluster/ranks_in_threads.h"
#include "tests/engine/all_kinds.h"

namespace odmoe {
namespace {

using namespace odmoe::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

EngineOptions fault_options() {
  EngineOptions options = reference_options(bundled_model());
  options.memory.percent = 25;
  options.chunk = 32;
  return options;
}

// The error with which the head cannot open the model.
Error refusal(RanksInThreads& ranks, const EngineOptions& options) {
  const auto engine = ranks.head().open(options, {});
  if (!engine.has_value()) return engine.error();
  ADD_FAILURE() << "it was opened";
  return {};
}

TEST(RankFaults, ARankWithoutTheModelIsNamedAtTheStart) {
  const EngineOptions options = fault_options();
  RanksInThreads ranks(3, options, {}, [](int rank, WorkerOptions& worker) {
    if (rank == 2) worker.engine.model = "/nowhere/model.gguf";
  });
  EXPECT_THAT(refusal(ranks, options).message,
              AllOf(HasSubstr("rank 2 (host2)"), HasSubstr("/nowhere/model.gguf")));
  const std::vector<Status>& outcomes = ranks.end();
  EXPECT_TRUE(outcomes[1].has_value());
  EXPECT_FALSE(outcomes[2].has_value());
}

TEST(RankFaults, ARankWithTooLittleMemoryIsNamedAtTheStart) {
  const EngineOptions options = fault_options();
  RanksInThreads ranks(2, options, {}, [](int, WorkerOptions& worker) {
    worker.engine.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = 1000};
  });
  EXPECT_THAT(refusal(ranks, options).message, HasSubstr("rank 1 (host1)"));
}

TEST(RankFaults, OtherKernelsAreRefusedUnlessTheyAreAllowed) {
  const EngineOptions options = fault_options();
  const auto pretend = [](int, WorkerOptions& worker) {
    worker.pretend = [](Hello& hello) { hello.kernels.features = "AVX2=1"; };
  };
  {
    RanksInThreads ranks(2, options, {}, pretend);
    EXPECT_THAT(refusal(ranks, options).message, AllOf(HasSubstr("rank 1 (host1)"), HasSubstr("AVX2=1")));
  }
  RanksInThreads ranks(2, options, {.mixed_allowed = true}, pretend);
  EXPECT_NE(ranks.open(options), nullptr);
}

TEST(RankFaults, TheHeadsOwnErrorEndsAll) {
  EngineOptions options = fault_options();
  RanksInThreads ranks(2, options);
  options.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = 1000};
  EXPECT_EQ(refusal(ranks, options).kind, ErrorKind::kBudget);
  EXPECT_TRUE(ranks.end()[1].has_value());
}

TEST(RankFaults, WhoeverWaitsForRanksThatLoadCanLeave) {
  const EngineOptions options = fault_options();
  std::promise<void> given_up;
  RanksInThreads ranks(2, options, {.leave = [] { return true; }}, [&](int, WorkerOptions& worker) {
    worker.find_model = [&](const std::string& name) -> Result<std::filesystem::path> {
      given_up.get_future().wait();
      return name;
    };
  });
  EXPECT_EQ(refusal(ranks, options).kind, ErrorKind::kInterrupted);
  given_up.set_value();
  EXPECT_TRUE(ranks.end()[1].has_value());
}

TEST(RankFaults, FillingDoesNotGoWithSeveralRanks) {
  EngineOptions options = fault_options();
  RanksInThreads ranks(2, options);
  options.fill = true;
  EXPECT_EQ(refusal(ranks, options).kind, ErrorKind::kUsage);
}

class RanksAtWork : public ::testing::Test {
 protected:
  // Two workers; `disk` is the drive of the second one.
  void start(Head::Options head = {}) {
    ranks_.emplace(3, options_, std::move(head), [this](int rank, WorkerOptions& worker) {
      if (rank != 2) return;
      worker.make_reader = [this](const ReaderOptions& options) -> Result<std::unique_ptr<AsyncReader>> {
        return std::make_unique<FakeReader>(disk_, options.depth,
                                            ReadAlignment{.offset_bytes = 512, .memory_bytes = 512});
      };
    });
    engine_ = ranks_->open(options_);
    ASSERT_NE(engine_, nullptr);
  }
  // The error of evaluating the text.
  Error failure() {
    auto session = engine_->new_session().value();
    const Status status = session->evaluate(engine_->encode(kText, true, true));
    if (!status.has_value()) return status.error();
    ADD_FAILURE() << "it went well";
    return {};
  }
  std::vector<float> wanted() {
    const auto engine = open_or_fail(options_);
    return all_logits(*engine, engine->encode(kText, true, true));
  }

  EngineOptions options_ = fault_options();
  std::promise<void> told_;
  std::atomic<bool> leave_ = false;
  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
  std::optional<RanksInThreads> ranks_;  // after what its threads use
  std::unique_ptr<EngineImpl> engine_;
};

TEST_F(RanksAtWork, AReadThatFailsElsewhereIsAnErrorThatNamesTheRankAndTheNextTryGoesWell) {
  start();
  disk_->inject({.error = EIO, .times = 100});  // a read is tried three times
  auto session = engine_->new_session().value();
  int n_error = 0;
  for (const std::vector<Token> tokens = engine_->encode(kText, true, true);; ++n_error) {
    ASSERT_LT(n_error, 100);
    const Status status = session->evaluate(tokens);
    if (status.has_value()) break;
    EXPECT_EQ(status.error().kind, ErrorKind::kIo);
    EXPECT_THAT(status.error().message, AllOf(HasSubstr("rank 2 (host2): "), HasSubstr("demo.gguf")));
  }
  EXPECT_GT(n_error, 0);
  session.reset();
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
}

TEST_F(RanksAtWork, ShortReadsAndPassingErrorsElsewhereChangeNothing) {
  start();
  disk_->randomise(/*seed=*/7, /*short_percent=*/5, /*error_percent=*/1);
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
}

TEST_F(RanksAtWork, ARankThatHasGoneEndsTheEngine) {
  start({.on_end = [&] { told_.set_value(); }});
  ranks_->network().end(1);
  EXPECT_THAT(failure().message, HasSubstr("rank 1 (host1) has gone"));
  told_.get_future().wait();
  EXPECT_THAT(failure().message, HasSubstr("rank 1 (host1) has gone"));
  EXPECT_FALSE(ranks_->head().status().has_value());
}

TEST_F(RanksAtWork, ARankThatHangsEndsTheEngineAndIsNamed) {
  start({.pulse = kShortSilence});
  ranks_->network().cut(2);
  EXPECT_THAT(failure().message, HasSubstr("rank 2 (host2) has not been heard of"));
  EXPECT_THAT(failure().message, HasSubstr("rank 2 (host2) has not been heard of"));
}

TEST_F(RanksAtWork, WhatIsNotUnderstoodIsAnErrorAndNoToken) {
  start();
  ranks_->network().meddle = [](int from, int, std::vector<std::byte>& message) {
    if (from == 1) message.resize(message.size() - 4);
  };
  EXPECT_THAT(failure().message, AllOf(HasSubstr("rank 1 (host1)"), HasSubstr("not understood")));
}

TEST_F(RanksAtWork, AnInterruptEndsTheEvaluationAndTheNextGivesTheSameBits) {
  start();
  disk_->hold();  // the second worker waits for its drive
  std::thread interrupts([this] {
    disk_->wait_for_reads(1);
    engine_->interrupt();
  });
  EXPECT_EQ(failure().kind, ErrorKind::kInterrupted);
  interrupts.join();
  engine_->clear_interrupt();
  disk_->resume();
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
}

TEST_F(RanksAtWork, ARankThatIsAskedToEndTellsTheHead) {
  ranks_.emplace(2, options_, Head::Options{.on_end = [&] { told_.set_value(); }},
                 [&](int, WorkerOptions& worker) { worker.leave = [&] { return leave_.load(); }; });
  engine_ = ranks_->open(options_);
  ASSERT_NE(engine_, nullptr);
  leave_ = true;
  told_.get_future().wait();
  EXPECT_TRUE(ranks_->head().status().has_value());
  EXPECT_EQ(all_logits(*engine_, engine_->encode(kText, true, true)).size(), wanted().size());
}

}  // namespace
}  // namespace odmoe
