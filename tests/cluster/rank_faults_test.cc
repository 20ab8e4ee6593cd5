// Ranks that cannot take part, that fail, hang or go: an error that names them, and nothing wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <functional>
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

TEST(RankFaults, ARankWithTooLittleMemoryForSeveralPromptsSaysSo) {
  EngineOptions options = fault_options();
  options.sessions = options.prompts = 2;
  RanksInThreads ranks(2, options, {}, [](int, WorkerOptions& worker) {
    worker.engine.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = 1000};
  });
  EXPECT_THAT(refusal(ranks, options).message, HasSubstr("--prompts 1 takes less"));
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

class RanksAtWork : public ::testing::Test {
 protected:
  // Two workers; `disk` is the drive of the second one.
  void start(Head::Options head = {}, int n_rank = 3) {
    ranks_.emplace(n_rank, options_, std::move(head), [this](int rank, WorkerOptions& worker) {
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
  // A rank goes in the middle of an evaluation, and `then` is done while the second worker's drive hangs, so
  // that the others cannot have regrouped.
  void lose(int rank, const std::function<void()>& then = [] {}) {
    disk_->hold();
    const size_t before = disk_->n_read();
    auto error = std::async(std::launch::async, [this] { return failure(); });
    disk_->wait_for_reads(before + 1);
    ranks_->network().end(rank);
    EXPECT_THAT(error.get().message, HasSubstr(odmoe::format("rank {} (host{}) has gone", rank, rank)));
    then();
    disk_->resume();
    while (!ranks_->head().status().has_value()) std::this_thread::yield();
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

TEST_F(RanksAtWork, WhoWaitsForAnAbandonedWorkCanBeInterruptedToo) {
  start();
  disk_->hold();
  std::thread interrupts([this] {
    disk_->wait_for_reads(1);
    engine_->interrupt();
  });
  EXPECT_EQ(failure().kind, ErrorKind::kInterrupted);
  interrupts.join();
  engine_->clear_interrupt();
  const int n_sent = ranks_->network().n_sent(0, 1);
  std::thread again([&] {
    while (ranks_->network().n_sent(0, 1) == n_sent) std::this_thread::yield();
    engine_->interrupt();
  });
  EXPECT_EQ(failure().kind, ErrorKind::kInterrupted);  // the drive hangs still
  again.join();
  engine_->clear_interrupt();
  disk_->resume();
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
}

TEST_F(RanksAtWork, ARankThatAnswersTwiceIsAnErrorAndNoToken) {
  start();
  ranks_->network().times = [](int from, int) { return from == 1 ? 2 : 1; };
  EXPECT_THAT(failure().message, AllOf(HasSubstr("rank 1 (host1)"), HasSubstr("answered to work")));
}

TEST_F(RanksAtWork, AResultWithoutRowsIsAnErrorAndNotWaitedFor) {
  start();
  ranks_->network().meddle = [](int from, int, std::vector<std::byte>& message) {
    if (from != 1) return;
    ResultHeader header;
    std::memcpy(&header, message.data(), sizeof(header));
    header.outcome = Outcome::kMore;
    header.n_row = 0;
    message.resize(sizeof(header));
    std::memcpy(message.data(), &header, sizeof(header));
  };
  EXPECT_THAT(failure().message, AllOf(HasSubstr("rank 1 (host1)"), HasSubstr("without rows")));
}

TEST_F(RanksAtWork, ARankThatIsAskedForWhatItHasNotEnds) {
  start();
  ranks_->network().meddle = [](int from, int to, std::vector<std::byte>& message) {
    if (from != 0 || to != 1) return;
    const int32_t layer = 1 << 20;
    std::memcpy(message.data() + 8, &layer, sizeof(layer));
  };
  std::thread goes([this] {
    while (!ranks_->has_ended(1)) std::this_thread::yield();
    ranks_->network().end(1);  // as its process would be
  });
  EXPECT_FALSE(failure().message.empty());
  goes.join();
  engine_.reset();
  EXPECT_THAT(ranks_->end()[1].error().message, HasSubstr("not understood"));
}

// The second worker's drive hangs, so that the first goes in the middle of an evaluation.
TEST_F(RanksAtWork, TheOthersGoOnWithoutARankThatHasGone) {
  start();
  ranks_->network().regroups = true;
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
  lose(1);
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
  const std::vector<Stats::Rank> ranks = engine_->stats().ranks;
  ASSERT_EQ(ranks.size(), 2);
  EXPECT_EQ(ranks[1].rank, 2);
  EXPECT_EQ(ranks[0].n_expert + ranks[1].n_expert,
            engine_->model().n_expert * engine_->model().n_expert_layer);
  // And the head alone.
  ranks_->network().end(2);
  while (engine_->stats().ranks.size() != 1) std::this_thread::yield();
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
  EXPECT_TRUE(ranks_->head().status().has_value());
  engine_.reset();
  EXPECT_FALSE(ranks_->end()[1].has_value());
}

TEST_F(RanksAtWork, AnotherRankMayGoWhileTheOthersRegroup) {
  start({}, /*n_rank=*/4);
  ranks_->network().regroups = true;
  lose(1, [this] { ranks_->network().end(3); });
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
  const std::vector<Stats::Rank> ranks = engine_->stats().ranks;
  ASSERT_EQ(ranks.size(), 2);
  EXPECT_EQ(ranks[1].rank, 2);
  engine_.reset();
  EXPECT_TRUE(ranks_->end()[2].has_value());
}

// The transport knows of it before the pulse does.
TEST_F(RanksAtWork, AnotherRankMayGoWhileItIsToldOfOwners) {
  start({}, /*n_rank=*/4);
  ranks_->network().regroups = true;
  lose(1, [this] { ranks_->network().end_when_told_of_owners(3); });
  EXPECT_TRUE(same(all_logits(*engine_, engine_->encode(kText, true, true)), wanted()));
  const std::vector<Stats::Rank> ranks = engine_->stats().ranks;
  ASSERT_EQ(ranks.size(), 2);
  EXPECT_EQ(ranks[1].rank, 2);
}

TEST_F(RanksAtWork, WarmingGoesOnWithoutARankThatHasGone) {
  start();
  std::vector<LikelyExpert> all;
  for (const int layer : engine_->decoder().expert_layers()) {
    for (int32_t expert = 0; expert < engine_->model().n_expert; ++expert) {
      all.push_back({.layer = layer, .expert = expert});
    }
  }
  disk_->hold();  // so that it is under way
  EXPECT_TRUE(engine_
                  ->warm(all,
                         [&](uint64_t, uint64_t) {
                           ranks_->network().end(1);
                           while (ranks_->head().status().has_value()) std::this_thread::yield();
                           return true;
                         })
                  .has_value());
  disk_->resume();
  EXPECT_TRUE(engine_->warm(all, {}).has_value()) << "it had gone before";
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
