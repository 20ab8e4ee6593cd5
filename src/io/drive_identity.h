// Which drive a file lies on, so that what was found out about it can be looked up again.
#pragma once

#include <filesystem>
#include <string>

namespace odmoe {

struct DriveIdentity {
  // Everything that tells one drive from another: device numbers, model, serial number or uuid, size, and the
  // file system's own id.  Printable; empty when the file cannot be asked about.
  std::string id;
  std::string name;  // for people: "nvme0n1 (Samsung SSD 990 PRO 2TB)"
};

// The drive below the file system of `file`.  A partition counts as its drive; a file system on several
// drives, or on none that the system names (btrfs, overlayfs, a network), is known by its own id.
DriveIdentity identify_drive(const std::filesystem::path& file);

// The part of it that reads /sys, looked for under `root`, so that tests can describe any machine.
namespace linux_drive {
DriveIdentity identify(const std::filesystem::path& root, unsigned major, unsigned minor);
}  // namespace linux_drive

}  // namespace odmoe
