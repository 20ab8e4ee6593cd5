// Records that have checksums: what arrives damaged is read again, named when it stays damaged, and never
// used.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

#include "io/fake_reader.h"
#include "store/testing.h"

namespace odmoe {
namespace {

using ::testing::HasSubstr;

constexpr ReadAlignment kSector{.offset_bytes = 512, .memory_bytes = 512};

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
  // Changes a bit of the last slice of an expert.
  void damage(ExpertKey key) const {
    std::vector<std::byte> data = source_->contents(key.layer);
    const int last = static_cast<int>(source_->layout(key.layer).slices.size()) - 1;
    data[source_->locate(key, last).offset + 3] ^= std::byte{1};
    disk_->add(source_->files()[static_cast<size_t>(key.layer)], std::move(data));
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
  for (const FakeModel& model : {FakeModel{}, FakeModel{.packed = true}, FakeModel{.slice_bytes = {4096}},
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
  damage({1, 5});
  disk_->hold();
  auto leases = lease(1, {5});
  disk_->wait_for_reads(1);
  disk_->complete();
  disk_->wait_for_reads(2);  // the second try
  EXPECT_FALSE(store_->ready(leases[0]));
  source_->add_to(*disk_);
  disk_->resume();
  const Status status = store_->wait_all(leases);
  ASSERT_TRUE(status.has_value()) << status.error().message;
  EXPECT_TRUE(holds_expert(*store_, *source_, leases[0]));
  EXPECT_EQ(store_->stats().read_retries, 1U);
  EXPECT_EQ(store_->stats().failed_reads, 0U);
}

TEST_F(RecordChecksum, WhatStaysDamagedIsNamedAndNeverReady) {
  ASSERT_NO_FATAL_FAILURE(make({.slice_bytes = {4096}}));
  damage({1, 5});
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
  source_->add_to(*disk_);
  leases = lease(1, {5});
  ASSERT_TRUE(store_->wait_all(leases).has_value());
  EXPECT_TRUE(holds_expert(*store_, *source_, leases[0]));
}

TEST_F(RecordChecksum, GateAndUpAreNotUsedBeforeTheWholeRecordIsKnownToBeSound) {
  ASSERT_NO_FATAL_FAILURE(make({.slice_bytes = {4096, 4096, 4096}}));
  disk_->hold();
  auto leases = lease(0, {2});
  disk_->wait_for_reads(3);
  disk_->complete();
  disk_->complete();
  std::vector<ExpertLease> none;
  std::jthread last([this] { disk_->complete(); });
  const auto landed = store_->wait_landed(none, leases);
  ASSERT_TRUE(landed.has_value());
  EXPECT_EQ(landed->ready_new, 1U);
  EXPECT_EQ(landed->gate_up_new, 0U);
}

TEST_F(RecordChecksum, APrefetchThatStaysDamagedIsDropped) {
  ASSERT_NO_FATAL_FAILURE(make({.slice_bytes = {4096}}));
  damage({1, 5});
  const std::vector<ExpertKey> hints = {{1, 5}};
  store_->prefetch(hints);
  while (store_->stats().failed_reads == 0) std::this_thread::yield();
  EXPECT_EQ(store_->residency({1, 5}), Residency::kAbsent);
  auto leases = lease(1, {0});
  EXPECT_TRUE(store_->wait_all(leases).has_value());
}

}  // namespace
}  // namespace odmoe
