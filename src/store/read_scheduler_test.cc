#include "store/read_scheduler.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "store/testing.h"

namespace odmoe {
namespace {

class ReadSchedulerTest : public ::testing::Test {
 protected:
  void make(const FakeModel& model, uint32_t depth, uint32_t read_bytes = 1 << 20,
            ReadAlignment alignment = {}) {
    source_.emplace(model);
    layout_ = make_slot_layout(*source_, 0, alignment);
    memory_.resize(layout_.slot_bytes * 8);
    scheduler_.emplace(*source_, std::vector<ReadCopy>{{.files = {0}, .depth = depth}},
                       ReadScheduler::Limits{.depth = depth,
                                             .read_bytes = read_bytes,
                                             .read_attempts = 2,
                                             .n_slot = 8,
                                             .alignment = alignment});
  }
  // Copies of the one file, each at these bytes per second; reads tell them apart by their file.
  void make_copies(const FakeModel& model, const std::vector<double>& speeds, uint32_t depth_of_each) {
    source_.emplace(model);
    layout_ = make_slot_layout(*source_, 0, {});
    memory_.resize(layout_.slot_bytes * 8);
    std::vector<ReadCopy> copies;
    copies.reserve(speeds.size());
    for (const double speed : speeds) {
      copies.push_back(
          {.files = {static_cast<int>(copies.size())}, .depth = depth_of_each, .bytes_per_second = speed});
    }
    scheduler_.emplace(*source_, std::move(copies),
                       ReadScheduler::Limits{.depth = depth_of_each * static_cast<uint32_t>(speeds.size()),
                                             .read_bytes = 4096,
                                             .read_attempts = 2,
                                             .n_slot = 8});
  }
  static std::vector<int> files_of(const std::vector<ReadRequest>& requests) {
    std::vector<int> files;
    files.reserve(requests.size());
    for (const ReadRequest& request : requests) files.push_back(request.file);
    return files;
  }
  // Expert n goes to slot n.
  void add(int expert, Priority priority) {
    scheduler_->add(expert, {0, expert}, layout_,
                    memory_.data() + static_cast<uint64_t>(expert) * layout_.slot_bytes, priority);
  }
  // All reads that may be submitted now.
  std::vector<ReadRequest> take() {
    std::vector<ReadRequest> requests;
    ReadRequest request;
    while (scheduler_->next(request, now_us_)) requests.push_back(request);
    return requests;
  }
  LoadEnd complete(const ReadCompletion& completion) { return scheduler_->complete(completion, now_us_); }
  int expert_of(const ReadRequest& request) const {
    return static_cast<int>(static_cast<uint64_t>(request.destination - memory_.data()) / layout_.slot_bytes);
  }
  std::vector<int> take_experts() {
    std::vector<int> experts;
    for (const ReadRequest& request : take()) experts.push_back(expert_of(request));
    return experts;
  }

  // Slots are only pointed at, never written: any memory will do.
  std::optional<FakeSource> source_;
  SlotLayout layout_;
  std::vector<std::byte> memory_;
  std::optional<ReadScheduler> scheduler_;
  int64_t now_us_ = 0;
};

constexpr auto kLoaded = LoadEnd::Kind::kLoaded;
constexpr auto kFailed = LoadEnd::Kind::kFailed;
constexpr auto kNone = LoadEnd::Kind::kNone;
constexpr auto kGateUp = LoadEnd::Kind::kGateUp;

TEST_F(ReadSchedulerTest, ALoadEndsWhenItsLastPieceHasArrived) {
  make({.n_layer = 1}, 8);
  add(3, Priority::kDemand);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(requests[0].offset, source_->locate({0, 3}, 0).offset);
  EXPECT_EQ(requests[2].bytes, 2048U);
  EXPECT_EQ(complete({requests[1].id, 1024}).kind, kNone);
  EXPECT_EQ(complete({requests[2].id, 2048}).kind, kNone);
  const LoadEnd end = complete({requests[0].id, 1024});
  EXPECT_EQ(end.kind, kLoaded);
  EXPECT_EQ(end.slot, 3);
  EXPECT_EQ(scheduler_->in_flight(), 0U);
}

TEST_F(ReadSchedulerTest, GateAndUpAreToldAsSoonAsBothHaveLanded) {
  make({.n_layer = 1}, 8);
  add(3, Priority::kDemand);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(complete({requests[1].id, 1024}).kind, kNone);
  const LoadEnd landed = complete({requests[0].id, 1024});
  EXPECT_EQ(landed.kind, kGateUp);
  EXPECT_EQ(landed.slot, 3);
  EXPECT_EQ(complete({requests[2].id, 2048}).kind, kLoaded);
}

TEST_F(ReadSchedulerTest, GateAndUpOfARecordInOneRunAreToldWhenAllBytesUpToDownHaveLanded) {
  make({.n_layer = 1, .n_expert = 2, .slice_bytes = {4096, 4096, 8192}, .packed = true}, 8, 4096);
  add(1, Priority::kDemand);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_EQ(complete({requests[1].id, 4096}).kind, kNone);
  EXPECT_EQ(complete({requests[2].id, 4096}).kind, kNone);
  EXPECT_EQ(complete({requests[0].id, 4096}).kind, kGateUp);
  EXPECT_EQ(complete({requests[3].id, 4096}).kind, kLoaded);
}

TEST_F(ReadSchedulerTest, AShortReadOfGateIsNoLandingUntilItsRestIsThere) {
  make({.n_layer = 1}, 8);
  add(0, Priority::kDemand);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(complete({requests[0].id, 512}).kind, kNone);
  EXPECT_EQ(complete({requests[1].id, 1024}).kind, kNone);
  const auto again = take();
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(complete({again[0].id, 512}).kind, kGateUp);
}

TEST_F(ReadSchedulerTest, NothingIsToldEarlyOfARecordThatIsStillToBeMovedIntoPlace) {
  make({.n_layer = 1, .n_expert = 4, .slice_bytes = {1000, 1000, 1000}}, 8, 4096, kSector);
  int n_moved = 0;
  for (int expert = 0; expert < 4; ++expert) {
    bool moved = false;
    for (const Extent& extent : layout_.extents) {
      const uint64_t offset = source_->locate({0, expert}, extent.first_slice).offset;
      moved = moved || extent_read(extent, offset, kSector).data_offset != extent.canonical_offset;
    }
    if (!moved) continue;
    ++n_moved;
    add(expert, Priority::kDemand);
    const auto requests = take();
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(complete({requests[i].id, requests[i].bytes}).kind,
                i + 1 < requests.size() ? kNone : kLoaded);
    }
  }
  EXPECT_GT(n_moved, 0);
}

TEST_F(ReadSchedulerTest, LargeSlicesAreCutIntoEqualAlignedPieces) {
  make({.n_layer = 1, .n_expert = 2, .slice_bytes = {10'240}, .first_offset = 96}, 8, 4096, kSector);
  add(1, Priority::kDemand);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 3U);
  uint64_t offset = 10'240;  // the sector in which the slice begins, 96 bytes before it
  std::byte* destination = requests[0].destination;
  for (const ReadRequest& request : requests) {
    EXPECT_EQ(request.offset, offset);
    EXPECT_EQ(request.destination, destination);
    EXPECT_EQ(request.bytes % 512, 0U);
    offset += request.bytes;
    destination += request.bytes;
  }
  EXPECT_EQ(requests[0].bytes, 3584U);
  EXPECT_EQ(offset, 10'240U + 10'752);  // to the end of the last sector
}

TEST_F(ReadSchedulerTest, PaddingBeyondTheEndOfTheFileNeedNotArrive) {
  make({.n_layer = 1, .n_expert = 2, .slice_bytes = {1000}}, 8, 4096, kSector);
  add(1, Priority::kDemand);  // bytes 1000 to 2000, the end: read as 512 to 2048
  const auto requests = take();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].offset, 512U);
  EXPECT_EQ(requests[0].bytes, 1536U);
  EXPECT_EQ(complete({requests[0].id, 1488}).kind, kLoaded);
}

TEST_F(ReadSchedulerTest, PrefetchesWaitForDemandsThatKeepTheDriveBusy) {
  make({.n_layer = 1, .slice_bytes = {256 << 10}}, 8);
  add(0, Priority::kPrefetch);
  add(1, Priority::kDemand);
  add(2, Priority::kPrefetch);
  add(3, Priority::kDemand);
  const auto demands = take();
  ASSERT_EQ(demands.size(), 2U);
  EXPECT_EQ(expert_of(demands[0]), 1);
  EXPECT_EQ(expert_of(demands[1]), 3);
  EXPECT_EQ(complete({demands[0].id, 256 << 10}).kind, kLoaded);
  EXPECT_EQ(complete({demands[1].id, 256 << 10}).kind, kLoaded);
  EXPECT_EQ(take_experts(), (std::vector{0, 2}));
}

TEST_F(ReadSchedulerTest, PrefetchesFillUpADriveThatDemandsLeaveIdle) {
  make({.n_layer = 1, .slice_bytes = {192 << 10}}, 32);
  for (const int expert : {2, 3}) add(expert, Priority::kPrefetch);
  for (const int expert : {0, 1}) add(expert, Priority::kDemand);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(expert_of(requests[2]), 2);  // behind all demands; with it the drive has enough to do
  complete({requests[0].id, 192 << 10});
  EXPECT_EQ(take_experts(), (std::vector{3}));
}

TEST_F(ReadSchedulerTest, BesideDemandsPrefetchesWaitWhileADemandDoes) {
  make({.n_layer = 1, .slice_bytes = {64 << 10}}, 32, 4096);
  add(0, Priority::kPrefetch);
  add(1, Priority::kDemand);
  ReadRequest request;
  ASSERT_TRUE(scheduler_->next(request, now_us_));
  EXPECT_EQ(expert_of(request), 1);
  EXPECT_FALSE(scheduler_->wants_prefetch());  // the rest of the demand comes first
}

TEST_F(ReadSchedulerTest, ManySmallDemandsKeepADriveBusyToo) {
  make({.n_layer = 1, .slice_bytes = {4096}}, 32);
  for (int expert = 0; expert < 6; ++expert) add(expert, Priority::kDemand);
  for (const int expert : {6, 7}) add(expert, Priority::kPrefetch);
  EXPECT_EQ(take().size(), 8U);
  EXPECT_FALSE(scheduler_->wants_prefetch());  // eight of kLeastCostBytes
}

TEST_F(ReadSchedulerTest, PrefetchesAreFewAndSmallSoThatADemandWaitsForLittle) {
  make({.n_layer = 1, .n_expert = 2, .slice_bytes = {4 << 20}}, 64, 4 << 20);
  add(0, Priority::kPrefetch);
  uint64_t bytes = 0;
  const auto requests = take();
  for (const ReadRequest& request : requests) {
    EXPECT_LE(request.bytes, ReadScheduler::kPrefetchPieceBytes);
    bytes += request.bytes;
  }
  EXPECT_EQ(bytes, ReadScheduler::kPrefetchBytes);
  EXPECT_FALSE(scheduler_->wants_prefetch());
  complete({requests[0].id, static_cast<int64_t>(requests[0].bytes)});
  EXPECT_EQ(take().size(), 1U);
  add(1, Priority::kDemand);
  const auto demand = take();
  ASSERT_EQ(demand.size(), 1U);
  EXPECT_EQ(demand[0].bytes, 4U << 20);
}

TEST_F(ReadSchedulerTest, SmallPrefetchesGoOutSeveralAtATime) {
  make({.n_layer = 1, .slice_bytes = {64 << 10}}, 64);
  for (int expert = 0; expert < 8; ++expert) add(expert, Priority::kPrefetch);
  const auto requests = take();
  ASSERT_EQ(requests.size(), ReadScheduler::kFew.reads);
  for (uint32_t i = 0; i < ReadScheduler::kFew.reads / 2; ++i) {
    EXPECT_TRUE(take().empty()) << i;
    EXPECT_FALSE(scheduler_->wants_prefetch());
    EXPECT_EQ(complete({requests[i].id, 64 << 10}).kind, kLoaded);
  }
  EXPECT_EQ(take_experts(), (std::vector{6, 7}));
}

TEST_F(ReadSchedulerTest, AsManyPrefetchesAreInFlightAsWasAskedFor) {
  make({.n_layer = 1, .slice_bytes = {16384}}, 64, 4096);
  for (int expert = 0; expert < 8; ++expert) add(expert, Priority::kPrefetch);
  EXPECT_EQ(take().size(), ReadScheduler::kFew.reads);
  scheduler_->set_prefetch_depth(PrefetchDepth::kMany);
  const auto more = take();
  EXPECT_EQ(more.size(), ReadScheduler::kMany.reads - ReadScheduler::kFew.reads);
  scheduler_->set_prefetch_depth(PrefetchDepth::kFew);
  for (const ReadRequest& request : more) {
    EXPECT_TRUE(take().empty());  // too many are in flight, and those stay
    complete({request.id, 4096});
  }
  EXPECT_EQ(scheduler_->in_flight(), ReadScheduler::kFew.reads);
}

TEST_F(ReadSchedulerTest, ManyPrefetchesLeaveDemandsHalfOfTheDepthAndAreNoMoreBytes) {
  make({.n_layer = 1, .slice_bytes = {4096}}, 8);
  scheduler_->set_prefetch_depth(PrefetchDepth::kMany);
  for (int expert = 0; expert < 8; ++expert) add(expert, Priority::kPrefetch);
  EXPECT_EQ(take().size(), 4U);
  make({.n_layer = 1, .slice_bytes = {4 << 20}}, 64, 4 << 20);
  scheduler_->set_prefetch_depth(PrefetchDepth::kMany);
  for (const int expert : {0, 1}) add(expert, Priority::kPrefetch);
  uint64_t bytes = 0;
  for (const ReadRequest& request : take()) bytes += request.bytes;
  EXPECT_EQ(bytes, ReadScheduler::kPrefetchBytes);
}

TEST_F(ReadSchedulerTest, TheRestOfAPrefetchThatBecomesADemandIsReadInLargePieces) {
  make({.n_layer = 1, .n_expert = 2, .slice_bytes = {4 << 20}}, 64, 4 << 20);
  add(0, Priority::kPrefetch);
  uint64_t bytes = 0;
  for (const ReadRequest& request : take()) bytes += request.bytes;
  scheduler_->promote(0);
  const auto rest = take();
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_EQ(rest[0].bytes + bytes, 4U << 20);
}

TEST_F(ReadSchedulerTest, PrefetchesLeaveRoomForDemands) {
  make({.n_layer = 1, .slice_bytes = {4096}}, 8, 4096);
  for (int expert = 0; expert < 4; ++expert) add(expert, Priority::kPrefetch);
  EXPECT_EQ(take_experts(), (std::vector{0, 1}));
  EXPECT_FALSE(scheduler_->wants_prefetch());
  add(4, Priority::kDemand);
  EXPECT_EQ(take_experts(), (std::vector{4}));
}

TEST_F(ReadSchedulerTest, APrefetchThatBecomesADemandMovesUp) {
  make({.n_layer = 1, .slice_bytes = {4096}}, 8, 4096);
  for (int expert = 0; expert < 5; ++expert) add(expert, Priority::kPrefetch);
  EXPECT_EQ(take_experts(), (std::vector{0, 1}));
  scheduler_->promote(4);
  scheduler_->promote(0);  // in flight: nothing to move
  EXPECT_TRUE(scheduler_->demand_waiting());
  EXPECT_EQ(take_experts(), (std::vector{4}));
  EXPECT_EQ(scheduler_->read_bytes(Priority::kDemand), 4096U);
  EXPECT_EQ(scheduler_->read_bytes(Priority::kPrefetch), 8192U);
}

TEST_F(ReadSchedulerTest, APrefetchThatHasEndedIsNoDemandUnderWayWhenItIsPromoted) {
  make({.n_layer = 1}, 8);
  add(1, Priority::kPrefetch);
  for (auto requests = take(); !requests.empty(); requests = take()) {
    for (const ReadRequest& request : requests) complete({request.id, static_cast<int64_t>(request.bytes)});
  }
  scheduler_->promote(1);
  EXPECT_TRUE(scheduler_->wants_prefetch());
  add(2, Priority::kPrefetch);
  EXPECT_FALSE(take().empty());
}

TEST_F(ReadSchedulerTest, NeverMoreInFlightThanTheDepth) {
  make({.n_layer = 1, .slice_bytes = {4096, 4096, 4096}}, 4);
  for (int expert = 0; expert < 3; ++expert) add(expert, Priority::kDemand);
  const auto first = take();
  EXPECT_EQ(first.size(), 4U);
  EXPECT_EQ(expert_of(first[2]), 0);
  EXPECT_EQ(expert_of(first[3]), 1);
  complete({first[0].id, 4096});
  EXPECT_EQ(take().size(), 1U);
}

TEST_F(ReadSchedulerTest, TheRestOfAShortReadGoesBeforeNewReads) {
  make({.n_layer = 1, .slice_bytes = {4096}}, 1, 4096, kSector);
  add(0, Priority::kDemand);
  add(1, Priority::kDemand);
  const auto first = take();
  EXPECT_EQ(complete({first[0].id, 1100}).kind, kNone);
  const auto second = take();
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(expert_of(second[0]), 0);
  EXPECT_EQ(second[0].offset, 1024U);
  EXPECT_EQ(second[0].bytes, 3072U);
  EXPECT_EQ(complete({second[0].id, 3072}).kind, kLoaded);
  EXPECT_EQ(scheduler_->n_retry(), 1U);
}

TEST_F(ReadSchedulerTest, AFailedLoadEndsOnceNothingOfItIsInFlight) {
  make({.n_layer = 1, .slice_bytes = {4096, 4096, 4096}}, 2);
  add(0, Priority::kDemand);
  add(1, Priority::kDemand);
  auto requests = take();
  EXPECT_EQ(complete({requests[0].id, -EIO}).kind, kNone);
  now_us_ += 1000;
  const auto again = take();
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].offset, requests[0].offset);
  EXPECT_EQ(complete({again[0].id, -EIO}).kind, kNone);  // given up, but one read is in flight
  const LoadEnd end = complete({requests[1].id, 4096});
  EXPECT_EQ(end.kind, kFailed);
  EXPECT_EQ(end.slot, 0);
  EXPECT_EQ(end.slice, 0);
  EXPECT_EQ(end.read.error, EIO);
  // Its third slice is not read; the next load goes on undisturbed, and so does a later try.
  EXPECT_EQ(take_experts(), (std::vector{1, 1}));
}

TEST_F(ReadSchedulerTest, SlicesOfOneExpertThatLieApartGoOutTogether) {
  make({.n_layer = 1, .slice_bytes = {4096, 4096, 4096}, .gap = 100'000}, 8);
  add(2, Priority::kDemand);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 3U);
  for (int slice = 0; slice < 3; ++slice) {
    EXPECT_EQ(requests[static_cast<size_t>(slice)].offset, source_->locate({0, 2}, slice).offset);
  }
}

TEST_F(ReadSchedulerTest, NeighboursAreReadAsOne) {
  make({.n_layer = 1, .slice_bytes = {4096, 4096, 4096}, .packed = true}, 8);
  add(2, Priority::kDemand);
  const auto requests = take();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].bytes, 3U * 4096);
}

TEST_F(ReadSchedulerTest, AFailedReadIsLeftAloneForLongerAndLonger) {
  make({.n_layer = 1, .slice_bytes = {4096}}, 8, 4096);
  add(0, Priority::kDemand);
  auto requests = take();
  EXPECT_EQ(complete({requests[0].id, -EIO}).kind, kNone);
  EXPECT_EQ(scheduler_->next_retry_us(now_us_), 1000);
  now_us_ = 999;
  EXPECT_TRUE(take().empty());
  now_us_ = 1000;
  requests = take();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(scheduler_->next_retry_us(now_us_), std::nullopt);
  // What brings something is not a failure and is gone on with at once.
  EXPECT_EQ(complete({requests[0].id, 2048}).kind, kNone);
  EXPECT_EQ(take().size(), 1U);
}

TEST(Backoff, IsOneFourAndThenSixteenMilliseconds) {
  EXPECT_EQ(backoff_us({.failures = 1}), 1000);
  EXPECT_EQ(backoff_us({.failures = 2}), 4000);
  EXPECT_EQ(backoff_us({.failures = 3}), 16'000);
  EXPECT_EQ(backoff_us({.failures = 9}), 16'000);
}

TEST_F(ReadSchedulerTest, PrefetchesThatWaitToBeTriedAgainNeverKeepADemandFromTheDrive) {
  make({.n_layer = 1, .slice_bytes = {4096}}, 1, 4096);
  add(0, Priority::kPrefetch);
  const auto first = take();
  complete({first[0].id, -EIO});
  add(1, Priority::kPrefetch);
  EXPECT_TRUE(take().empty());  // its share of the depth is taken by the one that waits
  add(2, Priority::kDemand);
  EXPECT_EQ(take_experts(), (std::vector{2}));
}

TEST_F(ReadSchedulerTest, FillsWaitForDemandsAndPrefetches) {
  make({.n_layer = 1, .slice_bytes = {256 << 10}}, 8);
  add(0, Priority::kFill);
  add(1, Priority::kPrefetch);
  add(2, Priority::kDemand);
  add(3, Priority::kDemand);
  const auto demands = take();
  ASSERT_EQ(demands.size(), 2U);
  EXPECT_EQ(expert_of(demands[0]), 2);
  for (const ReadRequest& demand : demands) complete({demand.id, 256 << 10});
  EXPECT_EQ(take_experts(), (std::vector{1, 0}));
  EXPECT_EQ(scheduler_->fills_in_flight(), 1U);
  EXPECT_EQ(scheduler_->read_bytes(Priority::kFill), 256U << 10);
}

TEST_F(ReadSchedulerTest, PrefetchesAndDemandsGoOutWhileFillsAreInFlight) {
  make({.n_layer = 1, .n_expert = 8, .slice_bytes = {1 << 20}}, 64);
  for (const int expert : {0, 1, 2}) add(expert, Priority::kFill);
  EXPECT_EQ(take_experts(), (std::vector{0, 1}));
  EXPECT_TRUE(scheduler_->wants_prefetch());
  add(3, Priority::kPrefetch);
  EXPECT_EQ(take_experts(), (std::vector{3, 3}));
  add(4, Priority::kDemand);
  EXPECT_EQ(take_experts(), (std::vector{4}));
}

TEST_F(ReadSchedulerTest, TheLongerNoDemandComesTheMoreOfAFillIsInFlight) {
  make({.n_layer = 1, .n_expert = 2, .slice_bytes = {64 << 20}}, 16);
  add(0, Priority::kFill);
  auto requests = take();
  EXPECT_EQ(requests.size(), ReadScheduler::kFillBytes >> 20U);
  for (uint32_t n = 2; n < 8; ++n) {
    const ReadRequest first = requests.front();
    requests.erase(requests.begin());
    complete({first.id, first.bytes});
    for (const ReadRequest& request : take()) requests.push_back(request);
    EXPECT_EQ(requests.size(), n + 1);
  }
  complete({requests.front().id, requests.front().bytes});
  EXPECT_EQ(take().size(), 1U);  // half of the depth: no more than that
  add(1, Priority::kDemand);
  auto demands = take();
  EXPECT_EQ(demands.size(), 8U);
  for (size_t i = 1; i < requests.size(); ++i) complete({requests[i].id, requests[i].bytes});
  while (!demands.empty()) {
    for (const ReadRequest& demand : demands) complete({demand.id, demand.bytes});
    demands = take();
    std::erase_if(demands, [&](const ReadRequest& request) { return expert_of(request) == 0; });
  }
  EXPECT_EQ(scheduler_->fills_in_flight(), ReadScheduler::kFillBytes >> 20U);
}

TEST_F(ReadSchedulerTest, AFillThatBecomesADemandMovesUp) {
  make({.n_layer = 1, .slice_bytes = {1 << 20}}, 64);
  for (int expert = 0; expert < 4; ++expert) add(expert, Priority::kFill);
  EXPECT_EQ(take_experts(), (std::vector{0, 1}));
  scheduler_->promote(3);
  EXPECT_TRUE(scheduler_->demand_waiting());
  EXPECT_EQ(take_experts(), (std::vector{3}));
}

TEST_F(ReadSchedulerTest, FillsThatWaitToBeTriedAgainNeverKeepADemandFromTheDrive) {
  make({.n_layer = 1, .slice_bytes = {4096}}, 2, 4096);
  for (const auto priority : {Priority::kFill, Priority::kPrefetch}) {
    const int expert = priority == Priority::kFill ? 0 : 1;
    add(expert, priority);
    const auto requests = take();
    ASSERT_EQ(requests.size(), 1U);
    EXPECT_EQ(complete({requests[0].id, -EIO}).kind, kNone);
  }
  for (int expert = 2; expert < 6; ++expert) {
    add(expert, Priority::kDemand);
    const auto demand = take();
    ASSERT_EQ(demand.size(), 1U);
    EXPECT_EQ(complete({demand[0].id, 4096}).kind, kLoaded);
  }
}

TEST_F(ReadSchedulerTest, PiecesGoToTheCopyWhoseQueueWouldBringThemFirst) {
  make_copies({.n_layer = 1, .slice_bytes = {4096}}, {3e9, 1e9}, 8);
  for (int expert = 0; expert < 8; ++expert) add(expert, Priority::kDemand);
  EXPECT_EQ(files_of(take()), (std::vector{0, 0, 0, 1, 0, 0, 0, 1}));
  EXPECT_EQ(scheduler_->copies()[0].read_bytes, 6U * 4096);
  EXPECT_EQ(scheduler_->copies()[1].read_bytes, 2U * 4096);
}

TEST_F(ReadSchedulerTest, CopiesOfUnknownSpeedShareAlike) {
  make_copies({.n_layer = 1, .slice_bytes = {4096}}, {3e9, 0}, 8);
  for (int expert = 0; expert < 4; ++expert) add(expert, Priority::kDemand);
  EXPECT_EQ(files_of(take()), (std::vector{0, 1, 0, 1}));
}

TEST_F(ReadSchedulerTest, APieceWaitsForTheFastCopyRatherThanGoToASlowOne) {
  make_copies({.n_layer = 1, .slice_bytes = {4096}}, {100e9, 1e9}, 2);
  for (int expert = 0; expert < 3; ++expert) add(expert, Priority::kDemand);
  const auto first = take();
  EXPECT_EQ(files_of(first), (std::vector{0, 0}));
  complete({first[0].id, 4096});
  EXPECT_EQ(files_of(take()), (std::vector{0}));
}

TEST_F(ReadSchedulerTest, AFailedReadIsTriedAtOnceOnAnotherCopy) {
  make_copies({.n_layer = 1, .slice_bytes = {4096}}, {3e9, 1e9}, 8);
  add(0, Priority::kDemand);
  const auto first = take();
  EXPECT_EQ(complete({first[0].id, -EIO}).kind, kNone);
  const auto second = take();
  EXPECT_EQ(files_of(second), (std::vector{1}));
  EXPECT_EQ(second[0].offset, first[0].offset);
  EXPECT_EQ(complete({second[0].id, 4096}).kind, kLoaded);
  EXPECT_EQ(scheduler_->take_failed_copy(), -1);
}

TEST_F(ReadSchedulerTest, ACopyThatFailsAgainAndAgainIsReadNoMoreAndThatIsToldOnce) {
  make_copies({.n_layer = 1, .slice_bytes = {4096}}, {3e9, 1e9}, 8);
  for (int expert = 0; expert < ReadScheduler::kMaxCopyFailures; ++expert) {
    add(expert, Priority::kDemand);
    const auto first = take();
    ASSERT_EQ(files_of(first), (std::vector{0}));
    complete({first[0].id, -EIO});
    const auto second = take();
    ASSERT_EQ(files_of(second), (std::vector{1}));
    EXPECT_EQ(complete({second[0].id, 4096}).kind, kLoaded);
  }
  EXPECT_EQ(scheduler_->take_failed_copy(), 0);
  EXPECT_EQ(scheduler_->take_failed_copy(), -1);
  EXPECT_TRUE(scheduler_->copies()[0].failed);
  for (int expert = 4; expert < 8; ++expert) add(expert, Priority::kDemand);
  EXPECT_EQ(files_of(take()), (std::vector{1, 1, 1, 1}));
}

TEST_F(ReadSchedulerTest, TheLastCopyIsNeverGivenUpAndItsErrorIsReported) {
  make_copies({.n_layer = 1, .slice_bytes = {4096}}, {3e9, 1e9}, 8);
  for (int expert = 0; expert < 4; ++expert) {
    add(expert, Priority::kDemand);
    LoadEnd end;
    for (int tries = 0; end.kind == kNone; ++tries) {
      ASSERT_LT(tries, 10);
      now_us_ += 16'000;
      const auto requests = take();
      ASSERT_EQ(requests.size(), 1U);
      end = complete({requests[0].id, -EIO});
    }
    EXPECT_EQ(end.kind, kFailed);
    EXPECT_EQ(end.read.error, EIO);
  }
  EXPECT_TRUE(scheduler_->copies()[0].failed || scheduler_->copies()[1].failed);
  EXPECT_FALSE(scheduler_->copies()[0].failed && scheduler_->copies()[1].failed);
}

TEST_F(ReadSchedulerTest, RetriesOfPrefetchesWaitForDemands) {
  make({.n_layer = 1, .slice_bytes = {256 << 10}}, 8);
  add(0, Priority::kPrefetch);
  const auto first = take();
  complete({first[0].id, -EAGAIN});
  now_us_ = 1000;
  EXPECT_FALSE(scheduler_->demand_waiting());
  for (const int expert : {1, 2}) add(expert, Priority::kDemand);
  const auto demands = take();
  ASSERT_EQ(demands.size(), 2U);
  for (const ReadRequest& demand : demands) EXPECT_NE(expert_of(demand), 0);
  complete({demands[0].id, 256 << 10});
  EXPECT_EQ(take_experts(), (std::vector{0}));
}

}  // namespace
}  // namespace odmoe
