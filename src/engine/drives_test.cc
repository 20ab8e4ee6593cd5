#include "engine/drives.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>

#include "io/fake_reader.h"
#include "io/testing.h"

namespace odmoe {
namespace {

class KnowDrive : public ::testing::Test {
 protected:
  KnowDrive() {
    const std::vector<std::byte> data(8U << 20U);
    files_ = {folder_.write("m", data)};
    disk_->add(files_[0], data);
    disk_->set_speed(files_[0], 1000, 100);
    disk_->run_by_itself();
    setup_.drive_file = folder_.path() / "drives.json";
    setup_.make_reader = [this](const ReaderOptions& options) -> Result<std::unique_ptr<AsyncReader>> {
      return std::make_unique<FakeReader>(disk_, options.depth);
    };
    setup_.clock = disk_.get();
    setup_.least_bytes = 1U << 20U;
  }

  TemporaryFolder folder_;
  std::vector<std::filesystem::path> files_;
  std::shared_ptr<FakeDisk> disk_ = std::make_shared<FakeDisk>();
  DriveSetup setup_;
};

TEST_F(KnowDrive, TriesADriveOutOnce) {
  const auto first = know_drive(files_, setup_).value();
  ASSERT_TRUE(first.has_value());
  EXPECT_TRUE(first->measured);
  EXPECT_LT(disk_->now_us(), 2'000'000);
  const uint64_t n_read = disk_->n_read();
  EXPECT_GT(n_read, 0U);
  const auto second = know_drive(files_, setup_).value();
  ASSERT_TRUE(second.has_value());
  EXPECT_FALSE(second->measured);
  EXPECT_EQ(second->profile.depth, first->profile.depth);
  EXPECT_EQ(second->profile.read_bytes, first->profile.read_bytes);
  EXPECT_EQ(disk_->n_read(), n_read);
  setup_.look_up = false;
  EXPECT_TRUE(know_drive(files_, setup_).value()->measured);
}

TEST_F(KnowDrive, SaysNothingAboutTheDriveOfATinyModel) {
  setup_.least_bytes = 9U << 20U;
  EXPECT_FALSE(know_drive(files_, setup_).value().has_value());
  EXPECT_EQ(disk_->n_read(), 0U);
}

TEST_F(KnowDrive, AFileThatCannotBeReadOrKeptIsNoReasonToFail) {
  std::ofstream(setup_.drive_file) << "not what it should be";
  EXPECT_TRUE(know_drive(files_, setup_).value().has_value());
  setup_.drive_file = files_[0] / "drives.json";  // below a file
  EXPECT_TRUE(know_drive(files_, setup_).value().has_value());
}

TEST_F(KnowDrive, ADriveThatFailsIsNotKnown) {
  disk_->inject({.error = EIO});
  EXPECT_FALSE(know_drive(files_, setup_).value().has_value());
  EXPECT_FALSE(std::filesystem::exists(setup_.drive_file));
}

TEST_F(KnowDrive, CanBeInterrupted) {
  setup_.probe.progress = [](const ProbePoint&, double) { return false; };
  const auto known = know_drive(files_, setup_);
  ASSERT_FALSE(known.has_value());
  EXPECT_EQ(known.error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace odmoe
