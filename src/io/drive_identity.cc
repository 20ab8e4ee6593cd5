#include "io/drive_identity.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <system_error>

#include "odmoe/format.h"

#ifdef __linux__
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#elifdef __APPLE__
#include <sys/mount.h>
#include <sys/param.h>
#endif

namespace odmoe {
namespace {

// The first line of a small file, without what would not print; empty when there is none.
std::string first_line(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  std::erase_if(line, [](char c) { return c < ' ' || c > '~'; });
  const size_t begin = line.find_first_not_of(' ');
  if (begin == std::string::npos) return {};
  return line.substr(begin, std::min<size_t>(line.find_last_not_of(' ') + 1 - begin, 128));
}

}  // namespace

namespace linux_drive {

DriveIdentity identify(const std::filesystem::path& root, unsigned major, unsigned minor) {
  std::error_code error;
  std::filesystem::path device = std::filesystem::canonical(
      root / "dev/block" / (std::to_string(major) + ":" + std::to_string(minor)), error);
  if (error) return {};
  if (std::filesystem::exists(device / "partition", error)) device = device.parent_path();

  // Numbers may change from boot to boot and drives may be exchanged: all of these must be as they were.
  DriveIdentity drive{.id = device.filename().string(), .name = device.filename().string()};
  for (const char* const file : {"dev", "device/model", "device/serial", "serial", "wwid", "device/wwid",
                                 "dm/name", "dm/uuid", "md/uuid", "size"}) {
    const std::string value = first_line(device / file);
    if (!value.empty()) drive.id += odmoe::format(" {}={}", file, value);
  }
  for (const char* const file : {"device/model", "dm/name"}) {
    if (const std::string model = first_line(device / file); !model.empty()) drive.name += " (" + model + ")";
  }
  return drive;
}

}  // namespace linux_drive

DriveIdentity identify_drive(const std::filesystem::path& file) {
  struct stat info{};
  if (stat(file.c_str(), &info) != 0) return {};
#ifdef __linux__
  DriveIdentity drive = linux_drive::identify("/sys", major(info.st_dev), minor(info.st_dev));
  struct statfs system{};
  if (drive.id.empty() && statfs(file.c_str(), &system) == 0) {
    // fsid is opaque, and its members have different names on different systems.
    uint64_t number = 0;
    static_assert(sizeof system.f_fsid <= sizeof number);
    std::memcpy(&number, &system.f_fsid, sizeof system.f_fsid);
    drive.id = odmoe::format("file system type={:x} id={:x}", static_cast<uint64_t>(system.f_type), number);
    drive.name = odmoe::format("file system {:x}", number);
  }
#elifdef __APPLE__
  DriveIdentity drive;
  struct statfs system{};
  if (statfs(file.c_str(), &system) == 0) {
    drive.name = system.f_mntfromname;
    drive.id = odmoe::format("{} type={} id={:x}.{:x}", system.f_mntfromname, system.f_fstypename,
                             static_cast<uint32_t>(system.f_fsid.val[0]),
                             static_cast<uint32_t>(system.f_fsid.val[1]));
  }
#else
  DriveIdentity drive;
#endif
  if (drive.id.empty()) {
    drive.id = odmoe::format("device {}", static_cast<uint64_t>(info.st_dev));
    drive.name = drive.id;
  }
  return drive;
}

}  // namespace odmoe
