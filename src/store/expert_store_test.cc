#include "store/expert_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>
#include <thread>

#include "store/testing.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

// A store on a fake drive: three layers of eight experts of three slices, two used, unless a test says
// otherwise.
class ExpertStoreTest : public ::testing::Test {
 protected:
  struct Setup {
    int32_t n_slot = 6;
    uint32_t depth = 32;
    ReadAlignment alignment = kSector;
    uint32_t read_bytes = 4096;
    PolicyKind policy = PolicyKind::kLayerLru;
  };

  void make(const FakeModel& model, const Setup& setup) {
    source_.emplace(model);
    source_->add_to(*disk_);
    ExpertStoreOptions options{.read_bytes = setup.read_bytes, .policy = setup.policy, .clock = disk_.get()};
    options.arena_bytes = ExpertStore::max_arena_bytes(*source_, setup.alignment) /
                          static_cast<uint64_t>((model.n_layer - model.n_dense) * model.n_expert) *
                          static_cast<uint64_t>(setup.n_slot);
    auto store = ExpertStore::create(
        *source_, std::make_unique<FakeReader>(disk_, setup.depth, setup.alignment), options);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = std::move(*store);
  }
  void make(const Setup& setup) { make(FakeModel{}, setup); }

  std::vector<ExpertLease> lease(int layer, std::vector<int32_t> experts) {
    std::vector<ExpertLease> leases;
    store_->lease(layer, experts, leases);
    return leases;
  }
  // Brings experts into memory and lets them go.
  void visit(int layer, std::vector<int32_t> experts) {
    std::vector<ExpertLease> leases = lease(layer, std::move(experts));
    ASSERT_TRUE(store_->wait_all(leases).has_value());
    for (const ExpertLease& one : leases) ASSERT_TRUE(holds_expert(*store_, *source_, one));
  }
  static std::vector<int32_t> experts_of(std::span<const ExpertLease> leases) {
    std::vector<int32_t> experts;
    for (const ExpertLease& one : leases) experts.push_back(one.key().expert);
    return experts;
  }
  std::vector<int32_t> resident(int layer) const {
    std::vector<int32_t> experts;
    for (int32_t expert = 0; expert < source_->n_expert(layer); ++expert) {
      if (store_->residency({layer, expert}) == Residency::kResident) experts.push_back(expert);
    }
    return experts;
  }
  // Until the expert is in memory; only for experts that are on their way.
  void await(ExpertKey key) const {
    while (store_->residency(key) != Residency::kResident) std::this_thread::yield();
  }
  void prefetch(std::vector<ExpertKey> hints, Reach reach = Reach::kShare) { store_->prefetch(hints, reach); }

  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
  std::optional<FakeSource> source_;
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(ExpertStoreTest, LeasedExpertsHoldTheBytesOfTheirFiles) {
  make({});
  for (int layer = 0; layer < 3; ++layer) {
    auto leases = lease(layer, {7, 0});
    EXPECT_EQ(experts_of(leases), (std::vector{7, 0}));
    ASSERT_TRUE(store_->wait_all(leases).has_value());
    for (const ExpertLease& one : leases) {
      EXPECT_TRUE(store_->ready(one));
      EXPECT_TRUE(holds_expert(*store_, *source_, one));
    }
  }
}

TEST_F(ExpertStoreTest, ExpertsWhoseOffsetsAreOutOfStepAreMovedIntoPlace) {
  make({.slice_bytes = {700, 1300, 96}, .first_offset = 33}, {.n_slot = 24});
  for (int layer = 0; layer < 3; ++layer) visit(layer, {0, 1, 2, 3, 4, 5, 6, 7});
}

TEST_F(ExpertStoreTest, RecordsInOnePieceAreReadInOneRead) {
  make({.packed = true}, {.n_slot = 6, .read_bytes = 1 << 20});
  visit(1, {2});
  EXPECT_EQ(disk_->n_read(), 1U);
}

TEST_F(ExpertStoreTest, LeasingStartsReadsAndDoesNotWait) {
  make({});
  disk_->hold();
  auto leases = lease(0, {1, 2});
  EXPECT_EQ(leases.size(), 2U);
  EXPECT_FALSE(store_->ready(leases[0]));
  EXPECT_EQ(store_->residency({0, 1}), Residency::kLoading);
  disk_->wait_for_reads(6);
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
}

TEST_F(ExpertStoreTest, WaitAnyMovesTheReadyOnesToTheFrontInOrder) {
  make({.n_slot = 12});
  visit(0, {1, 3});
  disk_->hold();
  auto leases = lease(0, {1, 0, 3, 2});  // 1 and 3 are in memory
  EXPECT_EQ(experts_of(leases), (std::vector{1, 3, 0, 2}));
  std::swap(leases[0], leases[2]);
  std::swap(leases[1], leases[3]);
  std::swap(leases[2], leases[3]);
  EXPECT_EQ(experts_of(leases), (std::vector{0, 2, 3, 1}));
  const auto n_ready = store_->wait_any(leases);
  ASSERT_TRUE(n_ready.has_value());
  EXPECT_EQ(*n_ready, 2U);
  EXPECT_EQ(experts_of(leases), (std::vector{3, 1, 0, 2}));
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
}

TEST_F(ExpertStoreTest, WaitingForNoLeasesReturnsAtOnce) {
  make({});
  EXPECT_EQ(store_->wait_any({}).value(), 0U);
  EXPECT_TRUE(store_->wait_all({}).has_value());
}

TEST_F(ExpertStoreTest, OneReadServesAllWhoWait) {
  make({});
  disk_->hold();
  auto first = lease(0, {4});
  auto second = lease(0, {4});
  EXPECT_EQ(first[0].slot(), second[0].slot());
  disk_->wait_for_reads(3);
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(first).has_value());
  ASSERT_TRUE(store_->wait_all(second).has_value());
  EXPECT_EQ(disk_->n_read(), 3U);
  EXPECT_EQ(store_->stats().misses, 1U);
  EXPECT_EQ(store_->stats().late_hits, 1U);
}

TEST_F(ExpertStoreTest, EvictionSkipsLeasedSlots) {
  make({});  // two slots for each layer
  auto held = lease(0, {0});
  ASSERT_TRUE(store_->wait_all(held).has_value());
  for (const int32_t expert : {1, 2, 3, 4}) visit(0, {expert});
  EXPECT_TRUE(holds_expert(*store_, *source_, held[0]));
  EXPECT_EQ(resident(0), (std::vector{0, 4}));
}

TEST_F(ExpertStoreTest, AnExpertStaysLeasedUntilItsLastLeaseIsReleased) {
  make({});
  auto first = lease(0, {0});
  auto second = lease(0, {0});
  ASSERT_TRUE(store_->wait_all(first).has_value());
  first.clear();
  for (const int32_t expert : {1, 2, 3}) visit(0, {expert});
  EXPECT_TRUE(holds_expert(*store_, *source_, second[0]));
  second.clear();
  for (const int32_t expert : {1, 2, 3}) visit(0, {expert});
  EXPECT_EQ(store_->residency({0, 0}), Residency::kAbsent);
}

TEST_F(ExpertStoreTest, AMovedLeaseIsReleasedOnce) {
  make({});
  auto leases = lease(0, {0, 1});
  ExpertLease one = std::move(leases[0]);
  EXPECT_FALSE(leases[0]);  // NOLINT(bugprone-use-after-move): what is promised
  EXPECT_TRUE(one);
  one = std::move(leases[1]);  // releases expert 0
  EXPECT_EQ(one.key(), (ExpertKey{0, 1}));
  ASSERT_TRUE(store_->wait_all(std::span(&one, 1)).has_value());
  one.release();
  EXPECT_FALSE(one);
  visit(0, {2, 3});  // takes both slots
  EXPECT_EQ(resident(0), (std::vector{2, 3}));
}

TEST_F(ExpertStoreTest, NoLayerPushesAnotherBelowItsShare) {
  make({});
  for (int layer = 0; layer < 3; ++layer) visit(layer, {0, 1});
  for (int round = 0; round < 5; ++round) {
    for (const int32_t expert : {2, 3, 4, 5, 6, 7}) visit(1, {expert});
  }
  EXPECT_EQ(resident(0), (std::vector{0, 1}));
  EXPECT_EQ(resident(2), (std::vector{0, 1}));
}

TEST_F(ExpertStoreTest, ABudgetBelowOneTokensCycleStillHits) {
  make({.n_layer = 8, .n_expert_used = 4}, {.n_slot = 16});  // two slots for each layer, four wanted
  for (int token = 0; token < 10; ++token) {
    for (int layer = 0; layer < 8; ++layer) visit(layer, {0, 1, 2, 3});
  }
  const ExpertStoreStats stats = store_->stats();
  EXPECT_EQ(stats.demands, 320U);
  // The layer at work has four slots, so the seven others have twelve between them: 1.7 hits for each visit.
  EXPECT_GE(stats.hits, 9U * 8 * 12 / 7);
}

TEST_F(ExpertStoreTest, TheMinimumArenaRunsEveryLayer) {
  make({.n_slot = 2});
  for (int round = 0; round < 3; ++round) {
    for (int layer = 0; layer < 3; ++layer) visit(layer, {(round * 2) % 8, (round * 2 + 1) % 8});
  }
  EXPECT_EQ(store_->stats().n_slot, 2);
}

TEST_F(ExpertStoreTest, AViewShowsWhereEachExpertIsAndHowOftenItWasAskedFor) {
  make({.n_dense = 1}, {.n_slot = 4});
  std::vector<ExpertView> view(8, {.residency = Residency::kLoading, .uses = 99});
  EXPECT_EQ(store_->view(0, view), 0);  // dense
  EXPECT_EQ(store_->view(2, view), 8);
  for (const ExpertView& expert : view) EXPECT_TRUE(expert == ExpertView{});
  visit(2, {1, 3});
  visit(2, {3, 5});
  disk_->hold();
  const std::vector<ExpertLease> waiting = lease(2, {7});
  store_->view(2, view);
  const auto uses = [&view](size_t expert) { return view[expert].uses; };
  EXPECT_EQ((std::vector{uses(0), uses(1), uses(3), uses(5), uses(7)}),
            (std::vector<uint32_t>{0, 1, 2, 1, 1}));
  for (int expert = 0; expert < 8; ++expert) {
    EXPECT_EQ(view[static_cast<size_t>(expert)].residency, store_->residency({2, expert})) << expert;
  }
  EXPECT_EQ(view[0].residency, Residency::kAbsent);
  EXPECT_EQ(view[3].residency, Residency::kResident);
  EXPECT_EQ(view[7].residency, Residency::kLoading);
  disk_->resume();
}

TEST_F(ExpertStoreTest, AWaveIsAsLargeAsTheLayersShareAndTheRestComesLater) {
  make({.n_slot = 12});
  EXPECT_EQ(store_->max_leases(0), 4);
  std::vector<int32_t> pending = {0, 1, 2, 3, 4, 5, 6, 7};
  int n_wave = 0;
  while (!pending.empty()) {
    auto leases = lease(0, pending);
    ASSERT_EQ(leases.size(), 4U);
    EXPECT_TRUE(lease(0, {6}).empty() || n_wave == 1) << "every slot of the layer is leased";
    ASSERT_TRUE(store_->wait_all(leases).has_value());
    for (const ExpertLease& one : leases) {
      EXPECT_TRUE(holds_expert(*store_, *source_, one));
      std::erase(pending, one.key().expert);
    }
    ++n_wave;
  }
  EXPECT_EQ(n_wave, 2);
}

TEST_F(ExpertStoreTest, ALayerCanAlwaysLeaseAsManyAsAreUsedWhateverItsShare) {
  make({.n_layer = 6, .n_expert_used = 4}, {.n_slot = 6});
  for (int layer = 0; layer < 6; ++layer) {
    EXPECT_EQ(store_->max_leases(layer), 4);
    visit(layer, {0, 1, 2, 3});
    EXPECT_EQ(lease(layer, {4, 5, 6, 7}).size(), 4U);
  }
}

TEST_F(ExpertStoreTest, ExpertsInMemoryAreLeasedBeforeAbsentOnesTakeTheirSlots) {
  make({});
  visit(0, {5, 6});
  auto leases = lease(0, {0, 1, 2, 6, 5});
  EXPECT_EQ(experts_of(leases), (std::vector{6, 5}));
  EXPECT_EQ(store_->stats().hits, 2U);
}

TEST_F(ExpertStoreTest, TheFirstOfALeaseIsTheLastToBeEvicted) {
  make({});
  visit(0, {3, 4});
  visit(0, {5});
  EXPECT_EQ(resident(0), (std::vector{3, 5}));
}

TEST_F(ExpertStoreTest, LeasesReleasedBeforeTheirReadsEndDoNotBlockTheNext) {
  make({.n_slot = 2});
  disk_->hold();
  lease(0, {0, 1}).clear();
  disk_->wait_for_reads(6);
  std::thread later([this] {
    disk_->wait_for_reads(6);
    disk_->resume();
  });
  auto leases = lease(1, {2, 3});
  EXPECT_GE(leases.size(), 1U);
  later.join();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  for (const ExpertLease& one : leases) EXPECT_TRUE(holds_expert(*store_, *source_, one));
}

TEST_F(ExpertStoreTest, SlotsOfALayerAreNeighbours) {
  make({.n_slot = 12});
  for (int layer = 2; layer >= 0; --layer) {
    visit(layer, {0, 1, 2, 3});
    for (const ExpertLease& one : lease(layer, {0, 1, 2, 3})) {
      EXPECT_GE(one.slot(), layer * 4);
      EXPECT_LT(one.slot(), layer * 4 + 4);
    }
  }
}

TEST_F(ExpertStoreTest, LayersOfDifferentSizesHaveTheirOwnSlots) {
  make({.n_layer = 4, .n_dense = 1, .larger_from = 2, .larger_by = 512}, {.n_slot = 12});
  const SlotView small = store_->slot_view(1);
  const SlotView large = store_->slot_view(3);
  EXPECT_LT(small.slot_bytes, large.slot_bytes);
  EXPECT_EQ(large.first_slot_offset, small.slot_bytes * static_cast<uint64_t>(small.n_slot));
  EXPECT_LE(large.first_slot_offset + large.slot_bytes * static_cast<uint64_t>(large.n_slot),
            store_->arena().size());
  for (int layer = 1; layer < 4; ++layer) visit(layer, {1, 6});
}

TEST_F(ExpertStoreTest, ATransientErrorIsTriedAgainAndNobodyNotices) {
  make({});
  disk_->run_by_itself();  // pauses before another try take no time
  disk_->inject({.error = EIO, .times = 2});
  disk_->inject({.short_bytes = 700, .times = 1});
  visit(0, {2});
  EXPECT_EQ(store_->stats().read_retries, 3U);
  EXPECT_EQ(store_->stats().failed_reads, 0U);
}

TEST_F(ExpertStoreTest, AReadThatKeepsFailingNamesFileTensorAndExpert) {
  make({});
  const uint64_t offset = source_->locate({1, 5}, 1).offset;
  disk_->run_by_itself();  // pauses before another try take no time
  disk_->inject({.path = "layer1", .begin = offset, .end = offset + 1, .error = EIO, .times = -1});
  auto leases = lease(1, {5});
  for (const auto& status : {store_->wait_all(leases), store_->wait_all(leases)}) {
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().kind, ErrorKind::kIo);
    EXPECT_THAT(status.error().message, HasSubstr("expert 5 of blk.1.slice1 (layer 1)"));
    EXPECT_THAT(status.error().message,
                HasSubstr("layer1 at byte " + std::to_string(offset) + " failed 3 times"));
  }
  EXPECT_FALSE(store_->ready(leases[0]));
  EXPECT_EQ(store_->residency({1, 5}), Residency::kAbsent);
  EXPECT_EQ(store_->stats().failed_reads, 1U);
}

TEST_F(ExpertStoreTest, AnExpertThatFailedIsTriedAfreshByTheNextLease) {
  make({});
  const uint64_t offset = source_->locate({1, 5}, 0).offset;
  disk_->run_by_itself();  // pauses before another try take no time
  disk_->inject({.path = "layer1", .begin = offset, .end = offset + 1, .error = EIO, .times = 3});
  auto leases = lease(1, {5});
  ASSERT_FALSE(store_->wait_all(leases).has_value());
  auto again = lease(1, {5});
  ASSERT_TRUE(store_->wait_all(again).has_value());
  EXPECT_TRUE(holds_expert(*store_, *source_, again[0]));
  EXPECT_FALSE(store_->wait_all(leases).has_value()) << "the old lease still tells of its error";
}

TEST_F(ExpertStoreTest, OtherExpertsAreUnaffectedByAFailure) {
  make({});
  const uint64_t offset = source_->locate({0, 1}, 0).offset;
  disk_->run_by_itself();  // pauses before another try take no time
  disk_->inject({.path = "layer0", .begin = offset, .end = offset + 1, .error = EIO, .times = -1});
  auto leases = lease(0, {0, 1});
  while (!store_->ready(leases[0])) std::this_thread::yield();
  EXPECT_TRUE(holds_expert(*store_, *source_, leases[0]));
  // Not wait_any(): it may return with the one that is ready before the other has failed for good.
  ASSERT_FALSE(store_->wait_all(leases).has_value());
  EXPECT_TRUE(store_->wait_all(std::span(leases).first(1)).has_value());
  leases.clear();
  visit(0, {2, 3});  // the slot of the one that failed is in use again
}

TEST_F(ExpertStoreTest, AFileTruncatedWhileOpenIsABadFile) {
  make({});
  disk_->run_by_itself();
  disk_->truncate("layer2", source_->locate({2, 7}, 2).offset + 100);
  auto leases = lease(2, {7});
  const auto status = store_->wait_all(leases);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(status.error().message,
              HasSubstr("expert 7 of blk.2.slice2 (layer 2): layer2 ends before byte"));
  leases.clear();
  visit(2, {0, 6});
}

TEST_F(ExpertStoreTest, AFileTooShortFromTheStartIsRefused) {
  const FakeSource source(FakeModel{});
  source.add_to(*disk_);
  disk_->truncate("layer1", source.file_bytes(1) - 1);
  const auto store =
      ExpertStore::create(source, std::make_unique<FakeReader>(disk_), {.arena_bytes = 1 << 20});
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(store.error().message, HasSubstr("layer1 ends before expert 7 of blk.1.slice2 does"));
}

TEST_F(ExpertStoreTest, AMissingFileIsNotFound) {
  const FakeSource source(FakeModel{}, "/nonexistent");
  const auto store =
      ExpertStore::create(source, std::make_unique<FakeReader>(disk_), {.arena_bytes = 1 << 20});
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().kind, ErrorKind::kNotFound);
}

TEST_F(ExpertStoreTest, AnArenaBelowTheMinimumIsRefusedWithTheMinimum) {
  const FakeSource source(FakeModel{});
  source.add_to(*disk_);
  EXPECT_EQ(ExpertStore::min_arena_bytes(source, {}), 2U * 4096);
  EXPECT_EQ(ExpertStore::max_arena_bytes(source, {}), 24U * 4096);
  const auto store =
      ExpertStore::create(source, std::make_unique<FakeReader>(disk_), {.arena_bytes = 2 * 4096 - 1});
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().kind, ErrorKind::kBudget);
  EXPECT_THAT(store.error().message, HasSubstr("8.00 KiB"));
}

TEST_F(ExpertStoreTest, MoreArenaThanAllExpertsIsNotTaken) {
  const FakeSource source(FakeModel{});
  source.add_to(*disk_);
  const auto store =
      ExpertStore::create(source, std::make_unique<FakeReader>(disk_), {.arena_bytes = uint64_t{1} << 50U});
  ASSERT_TRUE(store.has_value());
  EXPECT_EQ((*store)->arena().size(), 24U * 4096);
  EXPECT_EQ((*store)->stats().n_slot, 24);
}

TEST_F(ExpertStoreTest, OptionsOutOfRangeAreUsageErrors) {
  for (const ExpertStoreOptions& options :
       {ExpertStoreOptions{.read_attempts = 0}, ExpertStoreOptions{.read_attempts = 11},
        ExpertStoreOptions{.read_bytes = 512}, ExpertStoreOptions{.read_bytes = (1U << 30U) + 1}}) {
    ASSERT_FALSE(options.validate().has_value());
    EXPECT_EQ(options.validate().error().kind, ErrorKind::kUsage);
  }
}

TEST_F(ExpertStoreTest, PrefetchBringsExpertsBeforeTheyAreAskedFor) {
  make({});
  prefetch({{1, 3}, {1, 4}});
  await({1, 3});
  await({1, 4});
  visit(1, {3, 4});
  const ExpertStoreStats stats = store_->stats();
  EXPECT_EQ(stats.hits, 2U);
  EXPECT_EQ(stats.misses, 0U);
  EXPECT_EQ(stats.demand_read_bytes, 0U);
  EXPECT_EQ(stats.prefetch_read_bytes, 2U * 4096);
}

TEST_F(ExpertStoreTest, PrefetchIsServedOnlyWhileNoDemandIsQueued) {
  make({.depth = 4});
  disk_->hold();
  auto leases = lease(0, {0, 1});  // six reads for a depth of four
  disk_->wait_for_reads(4);
  prefetch({{1, 0}});
  EXPECT_EQ(store_->residency({1, 0}), Residency::kAbsent);
  disk_->resume();
  await({1, 0});
  const auto reads = disk_->reads();
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(reads[i].path, "layer0");
  ASSERT_TRUE(store_->wait_all(leases).has_value());
}

TEST_F(ExpertStoreTest, TheQueueIsRefilledAsSoonAsAReadCompletes) {
  make({.n_slot = 12, .depth = 4});
  disk_->hold();
  auto leases = lease(0, {0, 1, 2});  // nine reads
  for (size_t n = 4; n < 9; ++n) {
    disk_->wait_for_reads(n);
    EXPECT_EQ(disk_->in_flight().size(), 4U);
    disk_->complete(0);
  }
  disk_->wait_for_reads(9);
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
}

TEST_F(ExpertStoreTest, AFailingMirrorIsLeftOutAndTheBytesAreRight) {
  source_.emplace(FakeModel{});
  source_->add_to(*disk_);
  ExpertStoreOptions options{.arena_bytes = 6 * 4096, .bytes_per_second = 1e9, .clock = disk_.get()};
  ExpertMirror mirror{.bytes_per_second = 1e9};
  for (int layer = 0; layer < 3; ++layer) {
    mirror.files.emplace_back("mirror" + std::to_string(layer));
    disk_->add(mirror.files.back(), source_->contents(layer));
    disk_->inject({.path = mirror.files.back(), .error = EIO, .times = -1});
  }
  options.mirrors.push_back(std::move(mirror));
  disk_->run_by_itself();
  store_ = ExpertStore::create(*source_, std::make_unique<FakeReader>(disk_, 8), options).value();
  for (int32_t expert = 0; expert < 8; expert += 2) {
    for (int layer = 0; layer < 3; ++layer) visit(layer, {expert, expert + 1});
  }
  const auto copies = store_->copy_stats();
  ASSERT_EQ(copies.size(), 2U);
  EXPECT_FALSE(copies[0].failed);
  EXPECT_TRUE(copies[1].failed);
  EXPECT_EQ(store_->stats().failed_reads, 0U);
}

TEST_F(ExpertStoreTest, AMirrorTakesItsShareOfTheReads) {
  source_.emplace(FakeModel{});
  source_->add_to(*disk_);
  ExpertStoreOptions options{.arena_bytes = 6 * 4096, .bytes_per_second = 1e9, .clock = disk_.get()};
  ExpertMirror mirror{.bytes_per_second = 3e9};
  for (int layer = 0; layer < 3; ++layer) {
    mirror.files.emplace_back("mirror" + std::to_string(layer));
    disk_->add(mirror.files.back(), source_->contents(layer));
    disk_->set_speed("layer" + std::to_string(layer), 10, 1000);
    disk_->set_speed(mirror.files.back(), 10, 3000);
  }
  options.mirrors.push_back(std::move(mirror));
  disk_->run_by_itself();
  store_ = ExpertStore::create(*source_, std::make_unique<FakeReader>(disk_, 8), options).value();
  for (int32_t expert = 0; expert < 8; expert += 2) {
    for (int layer = 0; layer < 3; ++layer) visit(layer, {expert, expert + 1});
  }
  const auto copies = store_->copy_stats();
  EXPECT_EQ(copies[0].read_bytes + copies[1].read_bytes, 24U * 4096);
  EXPECT_GT(copies[1].read_bytes, copies[0].read_bytes);
  EXPECT_GT(copies[0].read_bytes, 0U);
}

TEST_F(ExpertStoreTest, APrefetchThatBecomesADemandMovesUp) {
  make({.depth = 4, .read_bytes = 4096});  // a depth of one for prefetch
  disk_->hold();
  prefetch({{1, 0}});
  disk_->wait_for_reads(1);
  EXPECT_EQ(disk_->in_flight().size(), 1U);
  auto leases = lease(1, {0});
  disk_->wait_for_reads(3);  // the rest need not wait for the first
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  EXPECT_TRUE(holds_expert(*store_, *source_, leases[0]));
  EXPECT_EQ(store_->stats().late_hits, 1U);
  EXPECT_EQ(disk_->n_read(), 3U);
}

TEST_F(ExpertStoreTest, NewHintsReplaceThoseThatHaveNotStarted) {
  make({.depth = 4});
  disk_->hold();
  prefetch({{0, 0}, {0, 1}});
  disk_->wait_for_reads(1);
  prefetch({{1, 5}});
  disk_->resume();
  await({1, 5});
  await({0, 0});
  EXPECT_EQ(store_->residency({0, 1}), Residency::kAbsent);
}

TEST_F(ExpertStoreTest, GateAndUpCanBeUsedWhileDownIsStillUnderWay) {
  make({});
  visit(0, {5});
  // Down fails once and is tried again later, when the drive's time goes on.
  const uint64_t down = source_->locate({0, 2}, 2).offset;
  disk_->inject({.path = "layer0", .begin = down, .end = down + 1, .error = EIO, .times = 1});
  auto leases = lease(0, {2, 5});
  auto landed = store_->wait_landed({}, leases);
  ASSERT_TRUE(landed.has_value());
  EXPECT_EQ(landed->ready_new, 1U);  // 5, which was there
  EXPECT_EQ(experts_of(leases).front(), 5);
  leases.erase(leases.begin());
  landed = store_->wait_landed({}, leases);
  ASSERT_TRUE(landed.has_value());
  EXPECT_EQ(landed->ready_new, 0U);
  EXPECT_EQ(landed->gate_up_new, 1U);
  EXPECT_FALSE(store_->ready(leases[0]));
  const SlotView view = store_->slot_view(0);
  const std::byte* slot = store_->arena().data() + view.first_slot_offset +
                          static_cast<uint64_t>(leases[0].slot()) * view.slot_bytes;
  for (uint64_t i = 0; i < 1024; ++i) {
    ASSERT_EQ(slot[view.gate_offset + i], pattern_byte(0, source_->locate({0, 2}, 0).offset + i));
    ASSERT_EQ(slot[view.up_offset + i], pattern_byte(0, source_->locate({0, 2}, 1).offset + i));
  }
  disk_->run_by_itself();
  landed = store_->wait_landed(leases, {});
  ASSERT_TRUE(landed.has_value());
  EXPECT_EQ(landed->ready, 1U);
  EXPECT_TRUE(holds_expert(*store_, *source_, leases[0]));
}

TEST_F(ExpertStoreTest, AReadThatFailsAfterGateAndUpHaveLandedIsStillTheError) {
  make({});
  disk_->run_by_itself();
  const uint64_t down = source_->locate({0, 2}, 2).offset;
  disk_->inject({.path = "layer0", .begin = down, .end = down + 1, .error = EIO, .times = 3});
  auto leases = lease(0, {2});
  auto landed = store_->wait_landed({}, leases);
  while (landed.has_value()) landed = store_->wait_landed(leases, {});
  EXPECT_EQ(landed.error().kind, ErrorKind::kIo);
}

TEST_F(ExpertStoreTest, HintsOfALayerAreDroppedOnceItLeasesExperts) {
  make({.depth = 4});
  disk_->hold();
  prefetch({{0, 0}, {0, 1}, {1, 5}});
  disk_->wait_for_reads(1);
  auto leases = lease(0, {3});  // the router has spoken: 0 is on its way, 1 was a wrong guess
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  await({1, 5});
  EXPECT_EQ(store_->residency({0, 0}), Residency::kResident);
  EXPECT_EQ(store_->residency({0, 1}), Residency::kAbsent);
}

TEST_F(ExpertStoreTest, PrefetchNeverEvictsWhatIsLeasedOrHintedAndKeepsToTheShare) {
  make({});
  auto held = lease(0, {0});
  ASSERT_TRUE(store_->wait_all(held).has_value());
  visit(0, {1});
  visit(1, {0, 1});
  prefetch({{0, 2}, {0, 3}, {1, 0}, {1, 7}, {1, 6}});
  await({0, 2});  // in the place of expert 1
  await({1, 7});  // in the place of expert 1 of layer 1, since expert 0 is hinted
  auto more = lease(2, {0, 1});
  ASSERT_TRUE(store_->wait_all(more).has_value());
  EXPECT_EQ(resident(0), (std::vector{0, 2}));
  EXPECT_EQ(resident(1), (std::vector{0, 7}));
  EXPECT_EQ(resident(2), (std::vector{0, 1}));
}

TEST_F(ExpertStoreTest, AGuessGetsTheSlotThatTheChoiceItselfWouldGet) {
  make({.policy = PolicyKind::kLru});
  visit(0, {1});
  visit(1, {0, 1});
  visit(2, {0, 1});
  visit(2, {2});
  prefetch({{2, 5}, {1, 1}}, Reach::kBorrow);
  await({2, 5});
  EXPECT_EQ(resident(0), std::vector<int>{});  // the one that was used longest ago, of whatever layer
  EXPECT_EQ(resident(2), (std::vector{0, 1, 2, 5}));
  prefetch({{2, 6}, {1, 0}}, Reach::kBorrow);
  await({2, 6});
  EXPECT_EQ(resident(1), (std::vector{0, 1}));  // both were hinted, now or before
  EXPECT_EQ(resident(2), (std::vector{0, 2, 5, 6}));
  prefetch({{0, 3}}, Reach::kShare);
  await({0, 3});
  EXPECT_EQ(resident(2), (std::vector{2, 5, 6}));  // the layer most above its share
}

TEST_F(ExpertStoreTest, APrefetchThatFailsIsForgottenAndADemandTriesAfresh) {
  make({});
  const uint64_t offset = source_->locate({0, 2}, 0).offset;
  disk_->run_by_itself();  // pauses before another try take no time
  disk_->inject({.path = "layer0", .begin = offset, .end = offset + 1, .error = EIO, .times = 3});
  prefetch({{0, 2}});
  while (store_->stats().failed_reads == 0) std::this_thread::yield();
  EXPECT_EQ(store_->residency({0, 2}), Residency::kAbsent);
  visit(0, {2, 3});
}

TEST_F(ExpertStoreTest, PrefetchInTheMinimumArenaNeverBlocksADemand) {
  make({.n_slot = 2});
  disk_->hold();
  prefetch({{0, 0}, {0, 1}});
  auto leases = lease(1, {4, 5});
  EXPECT_EQ(leases.size(), 2U);
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
}

TEST_F(ExpertStoreTest, StatisticsCountWhatHappened) {
  make({});
  disk_->hold();
  auto leases = lease(0, {0, 1});
  disk_->wait_for_reads(6);
  disk_->advance_us(250);
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  leases.clear();
  visit(0, {0, 2});
  const ExpertStoreStats stats = store_->stats();
  EXPECT_EQ(stats.demands, 4U);
  EXPECT_EQ(stats.hits, 1U);
  EXPECT_EQ(stats.misses, 3U);
  EXPECT_EQ(stats.evictions, 1U);
  EXPECT_EQ(stats.resident, 2);
  EXPECT_EQ(stats.working_set, 3);
  EXPECT_EQ(stats.reads, 9U);
  EXPECT_EQ(stats.demand_read_bytes, 3U * 4096);
  EXPECT_EQ(stats.read_busy_us, 250U);
}

TEST_F(ExpertStoreTest, TimeInWaitFunctionsIsStall) {
  make({});
  disk_->hold();
  auto leases = lease(0, {0});
  disk_->wait_for_reads(3);
  std::thread waiter([&] { EXPECT_TRUE(store_->wait_all(leases).has_value()); });
  // The fake's clock stands still, so the wait costs what passes between its start and its end: whatever the
  // waiter has seen of the advance, never more.
  disk_->advance_us(70);
  disk_->resume();
  waiter.join();
  EXPECT_LE(store_->stats().stall_us, 70U);
  leases.clear();
  const uint64_t before = store_->stats().stall_us;
  auto again = lease(0, {0});
  disk_->advance_us(1000);
  ASSERT_TRUE(store_->wait_all(again).has_value());
  EXPECT_EQ(store_->stats().stall_us, before) << "what is ready is not waited for";
}

TEST_F(ExpertStoreTest, DestructionWaitsForReadsInFlight) {
  make({});
  disk_->hold();
  lease(0, {0, 1}).clear();
  disk_->wait_for_reads(6);
  std::thread other([this] { disk_->resume(); });
  store_.reset();
  other.join();
  EXPECT_TRUE(disk_->in_flight().empty());
}

// The toy trace: hits and misses worked out by hand, two slots for each layer.
TEST_F(ExpertStoreTest, CountsTheHitsOfTheToyTrace) {
  make({.n_layer = 3, .n_expert = 4, .n_expert_used = 2}, {.n_slot = 6});
  std::ifstream trace(ODMOE_SOURCE_DIR "/tests/data/traces/toy/events.csv");
  std::string line;
  ASSERT_TRUE(std::getline(trace, line));
  ASSERT_EQ(line, "event_index,scheduler_step,layer,requested_experts,misses,hits");
  int n_event = 0;
  ExpertStoreStats before = store_->stats();
  while (std::getline(trace, line)) {
    std::istringstream fields(line);
    std::string index, step, layer, requested, misses, hits;
    for (std::string* field : {&index, &step, &layer, &requested, &misses, &hits})
      std::getline(fields, *field, ',');
    std::istringstream list(requested);
    visit(std::stoi(layer), {std::istream_iterator<int32_t>(list), {}});
    const ExpertStoreStats after = store_->stats();
    EXPECT_EQ(after.hits - before.hits, std::stoul(hits)) << line;
    EXPECT_EQ(after.misses - before.misses, std::stoul(misses)) << line;
    before = after;
    ++n_event;
  }
  EXPECT_EQ(n_event, 15);
  EXPECT_EQ(before.hits, 12U);
  EXPECT_EQ(before.misses, 18U);
  EXPECT_EQ(before.evictions, 12U);
}

}  // namespace
}  // namespace odmoe
