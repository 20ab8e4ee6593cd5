#include "io/drive_probe.h"

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <memory>
#include <vector>

#include "base/aligned_buffer.h"
#include "io/fake_reader.h"

namespace odmoe {
namespace {

constexpr uint32_t kKibi = 1024;

class DriveProbeTest : public ::testing::Test {
 protected:
  // A drive that serves one read after the other, each with a latency on top that others may overlap.
  void make(int64_t latency_us, double bytes_per_us, uint64_t file_bytes = 8U << 20U) {
    disk_ = std::make_shared<FakeDisk>();
    disk_->add("m", std::vector<std::byte>(file_bytes));
    disk_->set_speed("m", latency_us, bytes_per_us);
    disk_->run_by_itself();
    reader_ = std::make_unique<FakeReader>(disk_, kProbeDepth,
                                           ReadAlignment{.offset_bytes = 4096, .memory_bytes = 4096});
    ASSERT_TRUE(reader_->add_file("m").has_value());
  }
  Result<DriveProfile> probe(const ProbeOptions& options = {}) {
    return probe_drive(*reader_, memory_.span(), *disk_, options);
  }

  AlignedBuffer memory_ = AlignedBuffer::allocate(kProbeBytes).value();
  std::shared_ptr<FakeDisk> disk_;
  std::unique_ptr<FakeReader> reader_;
};

TEST_F(DriveProbeTest, APointTellsBandwidthAndLatency) {
  make(/*latency_us=*/500, /*bytes_per_us=*/100);
  DriveProbe probe(*reader_, memory_.span(), *disk_);
  const auto point = probe.measure(100 * 4096, 1, 100'000);
  ASSERT_TRUE(point.has_value());
  EXPECT_EQ(point->p50_us, 4096 + 500);
  EXPECT_EQ(point->p99_us, 4096 + 500);
  EXPECT_EQ(point->n_read, 22U);  // the first that ends after the limit is the last
  EXPECT_NEAR(point->bytes_per_second, 1e6 * 409'600 / 4596, 1e4);
}

TEST_F(DriveProbeTest, FindsTheSmallestReadAndTheSmallestDepthThatAreFastEnough) {
  // One read of 64 KiB takes 655 us and 2000 of latency: four at once fill the drive.
  make(2000, 100);
  const auto profile = probe();
  ASSERT_TRUE(profile.has_value());
  EXPECT_EQ(profile->read_bytes, 64 * kKibi);
  EXPECT_EQ(profile->depth, 4U);
  EXPECT_NEAR(profile->bytes_per_second, 1e8, 1e7);
  EXPECT_EQ(profile->latency_us, 2655);
}

TEST_F(DriveProbeTest, TakesLargerReadsWhereFewMayBeInFlight) {
  make(2000, 100);
  const std::array<uint32_t, 2> sizes = {64 * kKibi, 1024 * kKibi};
  const std::array<uint32_t, 2> depths = {1, 2};
  const auto profile = probe({.read_bytes = sizes, .depths = depths});
  ASSERT_TRUE(profile.has_value());
  EXPECT_EQ(profile->read_bytes, 1024 * kKibi);
  EXPECT_EQ(profile->depth, 2U);
}

TEST_F(DriveProbeTest, NeverTakesTwoSecondsHoweverSlowTheDrive) {
  for (const double bytes_per_us : {2.0, 5.0, 50.0, 500.0}) {
    make(10'000, bytes_per_us);
    const auto profile = probe();
    ASSERT_TRUE(profile.has_value());
    EXPECT_LT(disk_->now_us(), 2'000'000) << bytes_per_us;
    EXPECT_GE(profile->depth, 1U);
  }
}

TEST_F(DriveProbeTest, ReadsStayWithinTheFile) {
  make(10, 1000, (1U << 20U) + 5000);
  DriveProbe probe(*reader_, memory_.span(), *disk_);
  ASSERT_TRUE(probe.measure(1U << 20U, 4, 50'000).has_value());
  for (const FakeDisk::Read& read : disk_->reads()) EXPECT_LE(read.offset + read.bytes, (1U << 20U) + 5000U);
  const auto larger = probe.measure(2U << 20U, 1, 1000);
  ASSERT_FALSE(larger.has_value());
  EXPECT_EQ(larger.error().kind, ErrorKind::kUnsupported);
}

TEST_F(DriveProbeTest, AReadThatFailsIsAnErrorThatNamesTheFile) {
  make(10, 1000);
  disk_->inject({.error = EIO});
  const auto profile = probe();
  ASSERT_FALSE(profile.has_value());
  EXPECT_EQ(profile.error().kind, ErrorKind::kIo);
  EXPECT_NE(profile.error().message.find("m: "), std::string::npos) << profile.error().message;
  EXPECT_EQ(reader_->in_flight(), 0U);
}

TEST_F(DriveProbeTest, EndsWhenItsProgressSaysSo) {
  make(10, 1000);
  int calls = 0;
  const auto profile = probe({.progress = [&](const ProbePoint&, double) { return ++calls < 3; }});
  ASSERT_FALSE(profile.has_value());
  EXPECT_EQ(profile.error().kind, ErrorKind::kInterrupted);
  EXPECT_EQ(calls, 3);
}

TEST(DriveProfile, SmallSlicesWantMoreReadsInFlight) {
  const DriveProfile profile{.depth = 8, .read_bytes = 512 * kKibi};
  EXPECT_EQ(depth_for(profile, 2048 * kKibi), 8U);
  EXPECT_EQ(depth_for(profile, 512 * kKibi), 8U);
  EXPECT_EQ(depth_for(profile, 200 * kKibi), 21U);
  EXPECT_EQ(depth_for(profile, 1), kProbeDepth);
}

}  // namespace
}  // namespace odmoe
