// How many processors this process may keep busy.
#pragma once

#include <filesystem>
#include <optional>

namespace odmoe {

// Threads that compute all the time and wait for each other: as many as there are processors (hardware
// threads) that the affinity of the calling thread allows and the quotas of its control groups (v1 or v2)
// pay for, at least 1.  A quota is rounded down: a thread beyond it makes the system stop all of them for the
// rest of each period, while the others burn what is left in waiting for it.
int usable_processors();

// The Linux readings behind it, with /proc and /sys looked for under `root`, so that tests can describe any
// machine.
namespace linux_processors {
// The smallest quota of this process's control groups, in processors (0.5: half of one); none: no limit.
std::optional<double> quota(const std::filesystem::path& root);
// Of so many processors that affinity allows.
int usable(int allowed, std::optional<double> quota);
}  // namespace linux_processors

}  // namespace odmoe
