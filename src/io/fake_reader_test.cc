#include "io/fake_reader.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <thread>

#include "io/testing.h"

namespace odmoe {
namespace {

using std::chrono::microseconds;

class FakeReaderTest : public ::testing::Test {
 protected:
  FakeReaderTest() : disk_(std::make_shared<FakeDisk>()) {
    disk_->add("a", pattern(1000, 1));
    reader_ = std::make_unique<FakeReader>(disk_);
    EXPECT_TRUE(reader_->add_file("a").has_value());
  }
  void submit(uint64_t id, uint64_t offset = 0, uint32_t bytes = 10) {
    reader_->submit(
        {.id = id, .file = 0, .offset = offset, .bytes = bytes, .destination = buffer_ + 100 * id});
  }
  // The one completion that is there, or one with id 0 when there is none.
  ReadCompletion poll() {
    std::array<ReadCompletion, 1> out{};
    reader_->wait(out, microseconds(0));
    return out[0];
  }

  std::shared_ptr<FakeDisk> disk_;
  std::unique_ptr<FakeReader> reader_;
  std::byte buffer_[1000]{};
};

TEST_F(FakeReaderTest, LatencyPassesOnlyWhenTheTestSaysSo) {
  disk_->set_latency_us(50);
  submit(1);
  EXPECT_EQ(poll().id, 0U);
  disk_->advance_us(49);
  EXPECT_EQ(poll().id, 0U);
  disk_->advance_us(1);
  EXPECT_EQ(poll().id, 1U);
  EXPECT_EQ(disk_->now_us(), 50);
}

TEST_F(FakeReaderTest, HeldReadsCompleteInTheOrderOfTheTest) {
  disk_->hold();
  submit(1, 0);
  submit(2, 100);
  submit(3, 200);
  EXPECT_EQ(poll().id, 0U);
  EXPECT_EQ(disk_->in_flight().size(), 3U);
  disk_->complete(2);
  disk_->complete(0);
  EXPECT_EQ(disk_->in_flight(), (std::vector<FakeDisk::Read>{{"a", 100, 10}}));
  EXPECT_EQ(poll().id, 1U);
  EXPECT_EQ(poll().id, 3U);
  EXPECT_EQ(poll().id, 0U);
  disk_->resume();
  EXPECT_EQ(poll().id, 2U);
}

TEST_F(FakeReaderTest, FaultsHitTheReadsTheyAreMeantForAsOftenAsTold) {
  disk_->inject({.path = "a", .begin = 100, .end = 200, .error = EIO, .times = 2});
  disk_->inject({.path = "b", .error = ENODEV, .times = -1});
  submit(1, 0);
  EXPECT_EQ(poll().result, 10);
  submit(1, 199);
  EXPECT_EQ(poll().result, -EIO);
  submit(1, 150);
  EXPECT_EQ(poll().result, -EIO);
  submit(1, 150);
  EXPECT_EQ(poll().result, 10);
  EXPECT_EQ(buffer_[100], pattern_byte(1, 150));
}

TEST_F(FakeReaderTest, ShortReadsBringTheFirstBytes) {
  disk_->inject({.short_bytes = 4});
  submit(1, 20);
  EXPECT_EQ(poll().result, 4);
  EXPECT_EQ(buffer_[103], pattern_byte(1, 23));
  EXPECT_EQ(buffer_[104], std::byte{0});
}

TEST_F(FakeReaderTest, ATruncatedFileEndsEarlyButWasLongWhenOpened) {
  disk_->truncate("a", 15);
  EXPECT_EQ(reader_->file_bytes(0), 1000U);
  submit(1, 10);
  EXPECT_EQ(poll().result, 5);
}

TEST_F(FakeReaderTest, CountsAndRemembersWhatWasRead) {
  submit(1, 30);
  poll();
  EXPECT_EQ(disk_->n_read(), 1U);
  EXPECT_EQ(disk_->bytes_read(), 10U);
  EXPECT_EQ(disk_->reads(), (std::vector<FakeDisk::Read>{{"a", 30, 10}}));
}

TEST_F(FakeReaderTest, ATestCanWaitForReadsOfAnotherThread) {
  disk_->hold();
  std::thread other([this] {
    submit(1);
    submit(2);
  });
  disk_->wait_for_reads(2);
  EXPECT_EQ(disk_->in_flight().size(), 2U);
  other.join();
}

}  // namespace
}  // namespace odmoe
