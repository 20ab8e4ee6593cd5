// Ranks of which each has its own experts alone, and owners that are chosen by recorded uses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/share.h"
#include "temp_dir.h"
#include "tests/cluster/ranks_in_threads.h"
#include "tests/engine/all_kinds.h"
#include "tests/engine/made_directory.h"
#include "trace/trace_writer.h"

namespace odmoe {
namespace {

using namespace odmoe::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

class RankShares : public ::testing::Test {
 protected:
  EngineOptions options(const std::filesystem::path& model) const {
    EngineOptions options = reference_options(model);
    options.memory.percent = 25;
    options.chunk = 32;
    options.sessions = 2;
    return options;
  }
  // Makes the share of one rank of several.
  std::filesystem::path make(ShareRequest request, const std::string& name,
                             ExpertManifest::Layout layout = ExpertManifest::Layout::kPacked) const {
    const auto checkpoint = open_checkpoint(bundled_model());
    EXPECT_TRUE(checkpoint.has_value());
    const auto share = make_share(**checkpoint, request);
    EXPECT_TRUE(share.has_value()) << share.error().message;
    convert_or_fail(bundled_model(), dir_ / name, {.layout = layout, .share = &*share});
    return dir_ / name;
  }
  std::vector<std::filesystem::path> make_all(const std::vector<uint64_t>& sizes,
                                              const std::filesystem::path& balance = {}) const {
    std::vector<std::filesystem::path> shares;
    for (size_t rank = 0; rank < sizes.size(); ++rank) {
      shares.push_back(make({.rank = static_cast<int32_t>(rank), .sizes = sizes, .balance = balance},
                            odmoe::format("share{}", rank),
                            rank == 1 ? ExpertManifest::Layout::kFiles : ExpertManifest::Layout::kPacked));
    }
    return shares;
  }
  // The first expert is used much more than all others.
  std::filesystem::path write_uses(const char* name, uint16_t favourite) const {
    const auto engine = open_or_fail(options(bundled_model()));
    const auto n_layer = static_cast<uint32_t>(engine->model().n_expert_layer);
    const TraceShape shape{
        .n_layer = n_layer, .n_expert = static_cast<uint32_t>(engine->model().n_expert), .n_expert_used = 1};
    TraceSession session;
    session.experts.assign(size_t{100} * n_layer, favourite);
    session.weights.assign(session.experts.size(), 0);
    EXPECT_TRUE(write_trace(dir_ / name, shape, std::array{session}).has_value());
    return dir_ / name;
  }
  std::vector<float> wanted() const {
    const auto engine = open_or_fail(options(bundled_model()));
    return all_kinds(*engine);
  }
  static RanksInThreads::Change open_each(const std::vector<std::filesystem::path>& models,
                                          const std::filesystem::path& balance = {}) {
    return [=](int rank, WorkerOptions& worker) {
      worker.engine.model = models[static_cast<size_t>(rank)];
      worker.balance = balance;
    };
  }
  static std::string refusal(RanksInThreads& ranks, const EngineOptions& options) {
    const auto engine = ranks.head().open(options, {});
    return engine.has_value() ? "" : engine.error().message;
  }

  TempDir dir_;
};

TEST_F(RankShares, GiveTheBitsOfTheWholeModel) {
  const auto shares = make_all({2, 1, 1});
  RanksInThreads ranks(3, options(shares[0]), {}, open_each(shares));
  const auto engine = ranks.open(options(shares[0]));
  ASSERT_NE(engine, nullptr);
  EXPECT_TRUE(same(all_kinds(*engine), wanted()));
  const std::vector<Stats::Rank> stats = engine->stats().ranks;
  EXPECT_EQ(stats[0].n_expert, 2 * stats[1].n_expert);
  for (const Stats::Rank& rank : stats) EXPECT_GT(rank.misses, 0);
}

TEST_F(RankShares, GoWithAHeadThatHasTheWholeModel) {
  const auto shares = make_all({1, 1});
  RanksInThreads ranks(2, options(bundled_model()), {}, open_each(shares));
  const auto engine = ranks.open(options(bundled_model()));
  ASSERT_NE(engine, nullptr);
  EXPECT_TRUE(same(all_kinds(*engine), wanted()));
}

TEST_F(RankShares, AreRefusedWhereTheyAreOfAnotherRankOrOfAnotherNumber) {
  const auto shares = make_all({1, 1});
  {
    RanksInThreads ranks(2, options(shares[1]), {}, open_each(shares));
    EXPECT_THAT(refusal(ranks, options(shares[1])), AllOf(HasSubstr("rank 0"), HasSubstr("share 2 of 2")));
  }
  RanksInThreads ranks(3, options(bundled_model()), {}, open_each({shares[0], shares[1], bundled_model()}));
  EXPECT_THAT(refusal(ranks, options(bundled_model())), HasSubstr("give each rank its own share"));
}

TEST_F(RankShares, EndWithTheRankThatHasGone) {
  const auto shares = make_all({1, 1, 1});
  std::atomic<bool> told = false;
  RanksInThreads ranks(3, options(bundled_model()), {.on_end = [&] { told = true; }},
                       open_each({{}, shares[1], bundled_model()}));
  ranks.network().regroups = true;
  const auto engine = ranks.open(options(bundled_model()));
  ASSERT_NE(engine, nullptr);
  ranks.network().end(2);  // which had all, but rank 1 has not
  while (!told) std::this_thread::yield();
  auto session = engine->new_session().value();
  const Status status = session->evaluate(engine->encode(kText, true, true));
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("rank 2 (host2) has gone"));
  EXPECT_FALSE(ranks.head().status().has_value());
  ranks.network().end(0);  // as its process would be
}

TEST_F(RankShares, AreNoModelByThemselves) {
  const auto share = make({.rank = 0, .sizes = {1, 1}, .balance = {}}, "share");
  const auto engine = EngineImpl::open(options(share), {});
  ASSERT_FALSE(engine.has_value());
  EXPECT_THAT(engine.error().message, AllOf(HasSubstr("share 1 of 2"), HasSubstr("mpirun")));
  auto checkpoint = open_checkpoint(share);
  ASSERT_TRUE(checkpoint.has_value());
  EXPECT_FALSE(make_checkpoint_source(std::move(*checkpoint)).has_value());
}

TEST_F(RankShares, FollowTheUsesThatTheyWereMadeBy) {
  const auto uses = write_uses("uses.trace", 0), other = write_uses("other.trace", 1);
  const auto shares = make_all({1, 1}, uses);
  {
    RanksInThreads ranks(2, options(shares[0]), {.balance = uses}, open_each(shares, uses));
    const auto engine = ranks.open(options(shares[0]));
    ASSERT_NE(engine, nullptr);
    EXPECT_TRUE(same(all_kinds(*engine), wanted()));
  }
  RanksInThreads ranks(2, options(shares[0]), {.balance = other}, open_each(shares, other));
  EXPECT_THAT(refusal(ranks, options(shares[0])), HasSubstr("--balance"));
}

TEST_F(RankShares, UsesThatDifferBetweenRanksAreRefused) {
  const auto uses = write_uses("uses.trace", 0), other = write_uses("other.trace", 1);
  const EngineOptions one = options(bundled_model());
  {
    RanksInThreads ranks(2, one, {.balance = uses},
                         [&](int, WorkerOptions& worker) { worker.balance = other; });
    EXPECT_THAT(refusal(ranks, one), AllOf(HasSubstr("rank 1 (host1)"), HasSubstr("recorded uses")));
  }
  RanksInThreads ranks(2, one, {.balance = uses}, [&](int, WorkerOptions& worker) { worker.balance = uses; });
  const auto engine = ranks.open(one);
  ASSERT_NE(engine, nullptr);
  EXPECT_TRUE(same(all_kinds(*engine), wanted()));
}

TEST_F(RankShares, ATraceOfAnotherModelIsRefused) {
  const TraceShape shape{.n_layer = 3, .n_expert = 5, .n_expert_used = 1};
  const TraceSession session{.experts = {0, 1, 2}, .weights = {0, 0, 0}};
  ASSERT_TRUE(write_trace(dir_ / "small.trace", shape, std::array{session}).has_value());
  const EngineOptions one = options(bundled_model());
  RanksInThreads ranks(2, one, {.balance = dir_ / "small.trace"});
  EXPECT_THAT(refusal(ranks, one), AllOf(HasSubstr("small.trace"), HasSubstr("3 layers of 5 experts")));
}

}  // namespace
}  // namespace odmoe
