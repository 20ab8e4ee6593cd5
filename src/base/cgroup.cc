#include "base/cgroup.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace odmoe {
namespace {

namespace fs = std::filesystem;

bool has(std::string_view list, std::string_view name) {
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    if (list.substr(0, comma) == name) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

// A hierarchy of groups, or a part of one, and where it is mounted.
struct Mount {
  fs::path top;    // the group that is at the mount point
  fs::path point;  // under the root that is looked at
};

// Spaces, tabs, newlines and backslashes in mountinfo are \ooo.
fs::path unescape(std::string_view text) {
  std::string path;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](size_t at) { return at < text.size() && text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && octal(i + 1) && octal(i + 2) && octal(i + 3)) {
      const int value = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
      path += static_cast<char>(value);
      i += 3;
    } else {
      path += text[i];
    }
  }
  return path;
}

// Of the version's hierarchies those with the controller (version 2 has one, with all).
std::vector<Mount> mounts_of(const fs::path& root, bool v2, std::string_view controller) {
  std::vector<Mount> mounts;
  std::ifstream in(root / "proc/self/mountinfo");
  if (!in) {  // the usual places
    for (const std::string_view name :
         {v2 ? std::string_view() : controller, std::string_view(v2 ? "unified" : "cpu,cpuacct")}) {
      if (!v2 && name != controller && !has(name, controller)) continue;
      mounts.push_back({.top = "/", .point = root / "sys/fs/cgroup" / name});
    }
    return mounts;
  }
  // 36 35 98:0 /top /point rw,noatime [optional fields] - type source options
  for (std::string line; std::getline(in, line);) {
    const size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash)), after(line.substr(dash + 3));
    std::string id, parent, device, top, point, type, source, options;
    before >> id >> parent >> device >> top >> point;
    after >> type >> source >> options;
    if (type != (v2 ? "cgroup2" : "cgroup") || (!v2 && !has(options, controller))) continue;
    mounts.push_back({.top = unescape(top), .point = root / unescape(point).relative_path()});
  }
  return mounts;
}

// From the group up to what is mounted.
void add_folders(const Mount& mount, const fs::path& group, bool v2, std::vector<CgroupFolder>& folders) {
  // A namespace may show the group as one outside of what it mounts ("/../other"), and a container without a
  // namespace of its own one that is not below its mount's top: then the mount itself is the nearest.
  fs::path inside = group.lexically_relative(mount.top);
  if (inside.empty() || inside == "." || *inside.begin() == "..") inside.clear();
  for (;; inside = inside.parent_path()) {
    folders.push_back({.path = inside.empty() ? mount.point : mount.point / inside, .v2 = v2});
    if (inside.empty()) return;
  }
}

}  // namespace

std::vector<CgroupFolder> cgroup_folders(const fs::path& root, std::string_view controller) {
  std::vector<CgroupFolder> folders;
  std::ifstream in(root / "proc/self/cgroup");  // lines "hierarchy:controllers:path"
  for (std::string line; std::getline(in, line);) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();  // alone or beside version 1
    if (!v2 && !has(controllers, controller)) continue;
    const fs::path group = fs::path(line.substr(second + 1)).lexically_normal();
    for (const Mount& mount : mounts_of(root, v2, controller)) add_folders(mount, group, v2, folders);
  }
  return folders;
}

}  // namespace odmoe
