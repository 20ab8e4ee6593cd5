#include "base/processors.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <string>
#include <thread>

#include "base/cgroup.h"

#ifdef __linux__
#include <sched.h>

#include <cerrno>
#endif

namespace odmoe {
namespace linux_processors {
namespace {

namespace fs = std::filesystem;

// Of one group.
std::optional<double> quota_of(const CgroupFolder& folder) {
  double quota_us = -1, period_us = 0;
  if (folder.v2) {
    std::ifstream(folder.path / "cpu.max") >> quota_us >> period_us;  // "50000 100000"; "max 100000": none
  } else {
    std::ifstream(folder.path / "cpu.cfs_quota_us") >> quota_us;  // -1: none
    std::ifstream(folder.path / "cpu.cfs_period_us") >> period_us;
  }
  if (quota_us <= 0 || period_us <= 0) return std::nullopt;
  return quota_us / period_us;
}

}  // namespace

std::optional<double> quota(const fs::path& root) {
  std::optional<double> least;
  for (const CgroupFolder& folder : cgroup_folders(root, "cpu")) {
    if (const auto quota = quota_of(folder)) least = std::min(*quota, least.value_or(*quota));
  }
  return least;
}

int usable(int allowed, std::optional<double> quota) {
  const double most = std::max(allowed, 1);
  // A little more than the quota says: 3.9999 processors, as some runtimes write four, are four.
  constexpr double kRounding = 0.01;
  return static_cast<int>(std::clamp(quota.value_or(most) + kRounding, 1.0, most));
}

}  // namespace linux_processors

#ifdef __linux__

namespace {

// As many as the affinity of this thread allows; 0: the system does not say.
int allowed_processors() {
  constexpr size_t kMostBits = size_t{1} << 20;  // more processors than any kernel is built for
  for (size_t bits = CPU_SETSIZE; bits <= kMostBits; bits *= 2) {
    cpu_set_t* const set = CPU_ALLOC(bits);
    if (set == nullptr) return 0;
    const size_t bytes = CPU_ALLOC_SIZE(bits);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    const bool too_small = !known && errno == EINVAL;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (!too_small) return count;
  }
  return 0;
}

}  // namespace

int usable_processors() {
  const int allowed = allowed_processors();
  return linux_processors::usable(
      allowed > 0 ? allowed : static_cast<int>(std::thread::hardware_concurrency()),
      linux_processors::quota("/"));
}

#else

// Here programs are neither bound to processors nor given a quota of them.
int usable_processors() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

#endif

}  // namespace odmoe
