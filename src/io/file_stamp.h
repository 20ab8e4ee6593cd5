// What a file system says of a file that changes whenever the file's bytes do.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "odmoe/result.h"

namespace odmoe {

// Nobody can write to a file without the file system setting `changed_ns` to the present (its ctime, which no
// program can set), and two files of one file system that are there at once have different numbers.  So the
// same stamp means the same bytes, where the file system keeps such a time: ext4, XFS, Btrfs, ZFS, APFS, NFS
// and all that Unix systems keep their own files on do.  FAT and exFAT, and some that are read-only or served
// by a program, make it up from `modified_ns`, which anybody can set.  Nor does it show what happens below
// the file system, or when the machine's clock is set back to a tick of it.
// The device is not part of it: its number is another one after a restart on many a file system.  A copy of a
// file, and one that was renamed or whose owner or permissions were set, has another stamp.
struct FileStamp {
  uint64_t number = 0;  // inode
  uint64_t bytes = 0;
  int64_t modified_ns = 0, changed_ns = 0;
  bool operator==(const FileStamp&) const = default;
  std::string text() const;  // the same of equal stamps alone
};

// Of a file, or what a link points to.  kIo naming the path.
Result<FileStamp> stamp_of(const std::filesystem::path& path);

}  // namespace odmoe
