// Where this process's control groups are, for those who read limits from them.  Linux; elsewhere, and where
// the system has none, there are no folders.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace odmoe {

struct CgroupFolder {
  std::filesystem::path path;
  bool v2 = false;  // else version 1: other files, and one controller per hierarchy
};

// This process's group of `controller` ("cpu", "memory") and every group around it that can be seen: a limit
// of any of them counts.  Both versions where both are mounted.  Of a container that sees only a part of the
// tree it is that part, and where its own group is not in it, what is mounted.  /proc and /sys are looked for
// under `root`, so that tests can describe any machine.
std::vector<CgroupFolder> cgroup_folders(const std::filesystem::path& root, std::string_view controller);

}  // namespace odmoe
