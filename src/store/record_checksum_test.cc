// Records that have checksums: each section is used once it is known to be sound; what arrives damaged is
// read again, named when it stays damaged, and never used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "io/fake_reader.h"
#include "store/testing.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

class RecordChecksum : public ::testing::Test {
 protected:
  void make(FakeModel model) {
    model.checksums = true;
    source_ = std::make_unique<FakeSource>(model);
    source_->add_to(*disk_);
    ExpertStoreOptions options{.read_bytes = 4096, .clock = disk_.get()};
    options.arena_bytes = ExpertStore::max_arena_bytes(*source_, kSector);
    auto store = ExpertStore::create(*source_, std::make_unique<FakeReader>(disk_, 32, kSector), options);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = std::move(*store);
  }
  // Where a projection begins in its file.
  uint64_t offset_of(ExpertKey key, const RecordLayout::Projection& projection) const {
    return source_->locate(key, projection.slice).offset + projection.offset;
  }
  // From now on the files are sound but for a bit of each of these projections.
  void damage(ExpertKey key, const std::vector<RecordLayout::Projection RecordLayout::*>& projections) const {
    std::vector<std::byte> data = source_->contents(key.layer);
    for (const auto projection : projections)
      data[offset_of(key, source_->layout(key.layer).*projection) + 3] ^= std::byte{1};
    disk_->add(source_->files()[static_cast<size_t>(key.layer)], std::move(data));
  }
  void repair() const { source_->add_to(*disk_); }
  // With the drive held: brings the n oldest reads in flight.
  void bring(size_t n) const {
    for (; n > 0; --n) disk_->complete();
  }
  // Whether gate and up of the only lease can be used, as far as the reads that came so far tell: another
  // expert, which comes after them, tells when they were looked at.
  size_t gate_up_landed(std::vector<ExpertLease>& leases, int32_t other) {
    const uint64_t n_before = disk_->n_read();
    const size_t n_in_flight = disk_->in_flight().size();
    const int layer = leases.front().key().layer;
    std::vector<ExpertLease> others = lease(layer, {other});
    disk_->wait_for_reads(n_before + 1);
    while (!store_->ready(others.front())) {
      if (disk_->in_flight().size() > n_in_flight) disk_->complete(n_in_flight);
      std::this_thread::yield();
    }
    leases.push_back(std::move(others.front()));
    const auto landed = store_->wait_landed({}, leases);
    EXPECT_TRUE(landed.has_value() && landed->ready_new == 1);
    leases.erase(leases.begin());  // the other, which is ready
    return landed->gate_up_new;
  }
  std::vector<ExpertLease> lease(int layer, const std::vector<int32_t>& experts) {
    std::vector<ExpertLease> leases;
    store_->lease(layer, experts, leases);
    return leases;
  }

  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
  std::unique_ptr<FakeSource> source_;
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(RecordChecksum, SoundRecordsAreUsedWhateverTheirLayout) {
  for (const FakeModel& model :
       {FakeModel{}, FakeModel{.packed = true}, FakeModel{.joined = true}, FakeModel{.slice_bytes = {4096}},
        FakeModel{.slice_bytes = {700, 1300, 96}, .first_offset = 33}}) {
    ASSERT_NO_FATAL_FAILURE(make(model));
    for (int layer = 0; layer < 3; ++layer) {
      auto leases = lease(layer, {0, 5, 7});
      const Status status = store_->wait_all(leases);
      ASSERT_TRUE(status.has_value()) << status.error().message;
      for (const ExpertLease& one : leases) EXPECT_TRUE(holds_expert(*store_, *source_, one));
    }
    EXPECT_EQ(store_->stats().read_retries, 0U);
    store_.reset();
  }
}

TEST_F(RecordChecksum, WhatIsSoundWhenReadAgainIsUsedAndNobodyNotices) {
  ASSERT_NO_FATAL_FAILURE(make({.slice_bytes = {4096}}));
  damage({1, 5}, {&RecordLayout::down});
  disk_->hold();
  auto leases = lease(1, {5});
  disk_->wait_for_reads(1);
  disk_->complete();
  disk_->wait_for_reads(2);  // the second try
  EXPECT_FALSE(store_->ready(leases[0]));
  repair();
  disk_->resume();
  const Status status = store_->wait_all(leases);
  ASSERT_TRUE(status.has_value()) << status.error().message;
  EXPECT_TRUE(holds_expert(*store_, *source_, leases[0]));
  EXPECT_EQ(store_->stats().read_retries, 1U);
  EXPECT_EQ(store_->stats().failed_reads, 0U);
}

TEST_F(RecordChecksum, WhatStaysDamagedIsNamedAndNeverReady) {
  ASSERT_NO_FATAL_FAILURE(make({.slice_bytes = {4096}}));
  damage({1, 5}, {&RecordLayout::down});
  auto leases = lease(1, {4, 5});
  const Status status = store_->wait_all(leases);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(status.error().message, HasSubstr("expert 5 of layer 1 is damaged"));
  EXPECT_THAT(status.error().message, HasSubstr("read 3 times"));
  for (const ExpertLease& one : leases) EXPECT_EQ(store_->ready(one), one.key().expert == 4);
  EXPECT_EQ(disk_->n_read(), 4U);
  EXPECT_EQ(store_->residency({1, 5}), Residency::kAbsent);
  // Once the file is right again, so is the next lease.
  leases.clear();
  repair();
  leases = lease(1, {5});
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  EXPECT_TRUE(holds_expert(*store_, *source_, leases[0]));
}

// A page for each projection, and a read: as an expert directory has them, and in slices of their own.
class RecordSections : public RecordChecksum, public ::testing::WithParamInterface<bool> {
 protected:
  static constexpr ExpertKey kKey{.layer = 1, .expert = 2};

  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(
        make({.slice_bytes = {4096, 4096, 4096}, .joined = GetParam(), .packed = GetParam()}));
    disk_->hold();
  }
  void TearDown() override { disk_->resume(); }  // the store waits for what is under way

  // Leases the expert and brings gate and up.
  void begin() {
    leases_ = lease(kKey.layer, {kKey.expert});
    disk_->wait_for_reads(3);
    bring(2);
  }
  // Brings the rest, and once the n-th read was asked for looks at the reads from the fourth on.
  std::vector<uint64_t> offsets_read_again(size_t n) {
    bring(1);
    disk_->wait_for_reads(n);
    EXPECT_EQ(store_->residency(kKey), Residency::kLoading);
    std::vector<uint64_t> offsets;
    for (const FakeDisk::Read& read : disk_->reads()) offsets.push_back(read.offset);
    offsets.erase(offsets.begin(), offsets.begin() + 3);
    return offsets;
  }
  uint64_t gate() const { return offset_of(kKey, source_->layout(kKey.layer).gate); }
  uint64_t up() const { return offset_of(kKey, source_->layout(kKey.layer).up); }
  uint64_t down() const { return offset_of(kKey, source_->layout(kKey.layer).down); }

  std::vector<ExpertLease> leases_;
};

INSTANTIATE_TEST_SUITE_P(Layouts, RecordSections, ::testing::Bool(),
                         [](const auto& param) { return param.param ? "OneSlice" : "Slices"; });

TEST_P(RecordSections, GateAndUpAreUsedOnceTheyAreKnownToBeSound) {
  begin();
  const auto landed = store_->wait_landed({}, leases_);
  ASSERT_TRUE(landed.has_value());
  EXPECT_EQ(landed->gate_up_new, 1U);
  EXPECT_FALSE(store_->ready(leases_[0]));
  EXPECT_TRUE(holds_expert(*store_, *source_, leases_[0], false));
  bring(1);
  EXPECT_EQ(store_->wait_landed(leases_, {}).value().ready, 1U);
  EXPECT_TRUE(holds_expert(*store_, *source_, leases_[0]));
  EXPECT_EQ(store_->stats().read_retries, 0U);
  EXPECT_EQ(disk_->n_read(), 3U);
}

TEST_P(RecordSections, GateAndUpThatAreDamagedAreNotUsed) {
  damage(kKey, {&RecordLayout::up});
  begin();
  EXPECT_EQ(gate_up_landed(leases_, 6), 0U);
}

TEST_P(RecordSections, OfDamageInGateOnlyDownIsNotReadAgain) {
  damage(kKey, {&RecordLayout::gate});
  begin();
  EXPECT_EQ(offsets_read_again(5), (std::vector{gate(), up()}));
  damage(kKey, {&RecordLayout::down});  // must not be looked at any more
  bring(2);
  EXPECT_TRUE(store_->wait_all(leases_).has_value());
  EXPECT_TRUE(holds_expert(*store_, *source_, leases_[0]));
  EXPECT_EQ(store_->stats().read_retries, 1U);
}

TEST_P(RecordSections, OfDamageInDownOnlyWhoHasBegunKeepsGateAndUp) {
  damage(kKey, {&RecordLayout::down});
  begin();
  ASSERT_EQ(store_->wait_landed({}, leases_).value().gate_up_new, 1U);
  EXPECT_EQ(offsets_read_again(4), (std::vector{down()}));
  damage(kKey, {&RecordLayout::gate, &RecordLayout::up});  // must not be read over the sound ones
  EXPECT_TRUE(holds_expert(*store_, *source_, leases_[0], false));
  bring(1);
  EXPECT_EQ(store_->wait_landed(leases_, {}).value().ready, 1U);
  EXPECT_TRUE(holds_expert(*store_, *source_, leases_[0]));
  EXPECT_EQ(store_->stats().read_retries, 1U);
}

TEST_P(RecordSections, OfDamageInBothAllIsReadAgainAndGateAndUpAreFirstOnceMore) {
  damage(kKey, {&RecordLayout::gate, &RecordLayout::down});
  begin();
  EXPECT_EQ(offsets_read_again(6), (std::vector{gate(), up(), down()}));
  repair();
  bring(2);
  EXPECT_EQ(store_->wait_landed({}, leases_).value().gate_up_new, 1U);
  bring(1);
  EXPECT_EQ(store_->wait_landed(leases_, {}).value().ready, 1U);
  EXPECT_TRUE(holds_expert(*store_, *source_, leases_[0]));
  EXPECT_EQ(store_->stats().read_retries, 1U);
}

TEST_P(RecordSections, DownThatStaysDamagedIsNamedToWhoHasBegun) {
  damage(kKey, {&RecordLayout::down});
  begin();
  ASSERT_EQ(store_->wait_landed({}, leases_).value().gate_up_new, 1U);
  disk_->resume();
  const auto landed = store_->wait_landed(leases_, {});
  ASSERT_FALSE(landed.has_value());
  EXPECT_EQ(landed.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(
      landed.error().message,
      HasSubstr("expert 2 of layer 1 is damaged: its down in layer1 at byte " + std::to_string(down())));
  EXPECT_EQ(disk_->n_read(), 3U + 2U);
  EXPECT_EQ(store_->residency(kKey), Residency::kAbsent);
}

TEST_P(RecordSections, GateAndUpThatStayDamagedAreNamed) {
  damage(kKey, {&RecordLayout::gate});
  disk_->resume();
  leases_ = lease(kKey.layer, {kKey.expert});
  const Status status = store_->wait_all(leases_);
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message,
              HasSubstr("expert 2 of layer 1 is damaged: its gate and up in layer1 at byte " +
                        std::to_string(gate())));
  EXPECT_EQ(disk_->n_read(), 3U + 2U * 2U);
}

TEST_P(RecordSections, AReadOfDownThatFailsAfterItsDamageIsTheError) {
  damage(kKey, {&RecordLayout::down});
  begin();
  ASSERT_EQ(store_->wait_landed({}, leases_).value().gate_up_new, 1U);
  EXPECT_EQ(offsets_read_again(4), (std::vector{down()}));
  disk_->inject({.path = "layer1", .begin = down(), .end = down() + 1, .error = EIO, .times = -1});
  disk_->run_by_itself();
  disk_->resume();
  const auto landed = store_->wait_landed(leases_, {});
  ASSERT_FALSE(landed.has_value());
  EXPECT_EQ(landed.error().kind, ErrorKind::kIo);
}

// Gate and up end in the middle of a block, which a second read of down would bring again.
TEST_F(RecordChecksum, PartsThatShareABlockAreUsedAndReadAgainTogether) {
  ASSERT_NO_FATAL_FAILURE(
      make({.slice_bytes = {4096, 4000, 4096}, .joined = true, .packed = true, .gap = 96}));
  damage({0, 2}, {&RecordLayout::down});
  disk_->hold();
  auto leases = lease(0, {2});
  disk_->wait_for_reads(3);
  bring(2);
  EXPECT_EQ(gate_up_landed(leases, 6), 0U);
  const uint64_t n_before = disk_->n_read();
  bring(1);
  disk_->wait_for_reads(n_before + 3);
  repair();
  disk_->resume();
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  EXPECT_TRUE(holds_expert(*store_, *source_, leases[0]));
  EXPECT_EQ(store_->stats().read_retries, 1U);
}

TEST_F(RecordChecksum, APrefetchThatStaysDamagedIsDropped) {
  ASSERT_NO_FATAL_FAILURE(make({.slice_bytes = {4096}}));
  damage({1, 5}, {&RecordLayout::down});
  const std::vector<ExpertKey> hints = {{1, 5}};
  store_->prefetch(hints, Reach::kShare);
  while (store_->stats().failed_reads == 0) std::this_thread::yield();
  EXPECT_EQ(store_->residency({1, 5}), Residency::kAbsent);
  auto leases = lease(1, {0});
  EXPECT_TRUE(store_->wait_all(leases).has_value());
}

}  // namespace
}  // namespace odmoe
