#include "io/drive_identity.h"

#include <gtest/gtest.h>

#include <fstream>

#include "io/testing.h"

namespace odmoe {
namespace {

// A made-up /sys.
class DriveIdentityTest : public ::testing::Test {
 protected:
  void put(const std::string& path, const std::string& text) const {
    const auto file = folder_.path() / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  void link(const std::string& number, const std::string& device) const {
    std::filesystem::create_directories(folder_.path() / "dev/block");
    std::filesystem::create_symlink(folder_.path() / device, folder_.path() / "dev/block" / number);
  }
  void nvme(const std::string& serial) const {
    put("devices/nvme0/nvme0n1/dev", "259:0");
    put("devices/nvme0/nvme0n1/size", "3907029168");
    put("devices/nvme0/nvme0n1/device/model", "Fast 990  ");
    put("devices/nvme0/nvme0n1/device/serial", serial);
    put("devices/nvme0/nvme0n1/nvme0n1p3/partition", "3");
  }
  TemporaryFolder folder_;
};

TEST_F(DriveIdentityTest, APartitionIsKnownByItsDrive) {
  nvme("S1");
  link("259:0", "devices/nvme0/nvme0n1");
  link("259:3", "devices/nvme0/nvme0n1/nvme0n1p3");
  const DriveIdentity drive = linux_drive::identify(folder_.path(), 259, 3);
  EXPECT_EQ(drive.id, linux_drive::identify(folder_.path(), 259, 0).id);
  EXPECT_EQ(drive.name, "nvme0n1 (Fast 990)");
  EXPECT_NE(drive.id.find("device/serial=S1"), std::string::npos) << drive.id;
}

TEST_F(DriveIdentityTest, AnotherDriveUnderTheSameNumberIsAnother) {
  nvme("S1");
  link("259:3", "devices/nvme0/nvme0n1/nvme0n1p3");
  const DriveIdentity before = linux_drive::identify(folder_.path(), 259, 3);
  put("devices/nvme0/nvme0n1/device/serial", "S2");
  EXPECT_NE(linux_drive::identify(folder_.path(), 259, 3).id, before.id);
}

TEST_F(DriveIdentityTest, ADriveThatTheSystemDoesNotNameHasNoDescription) {
  EXPECT_TRUE(linux_drive::identify(folder_.path(), 0, 42).id.empty());
}

TEST_F(DriveIdentityTest, EveryFileThatIsThereHasADriveAndItIsAlwaysTheSame) {
  put("a", "x");
  put("b", "y");
  const DriveIdentity drive = identify_drive(folder_.path() / "a");
  EXPECT_FALSE(drive.id.empty());
  EXPECT_FALSE(drive.name.empty());
  EXPECT_EQ(drive.id, identify_drive(folder_.path() / "b").id);
  EXPECT_TRUE(identify_drive(folder_.path() / "none").id.empty());
}

}  // namespace
}  // namespace odmoe
