#include "base/processors.h"

#include "base/testing_root.h"

#ifdef __linux__
#include <sched.h>

#include <thread>
#endif

namespace odmoe {
namespace {

using linux_processors::usable;

class Processors : public MachineTest {
 protected:
  std::optional<double> quota() { return linux_processors::quota(root_); }
};

TEST_F(Processors, WithoutControlGroupsThereIsNoQuota) { EXPECT_EQ(quota(), std::nullopt); }

TEST_F(Processors, AQuotaOfVersion2CountsAndMaxIsNone) {
  write("proc/self/cgroup", "0::/user.slice/job.scope\n");
  write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/user.slice/job.scope/cpu.max", "50000 100000\n");
  EXPECT_EQ(quota(), 0.5);
}

TEST_F(Processors, TheSmallestQuotaOfAllGroupsAroundCounts) {
  write("proc/self/cgroup", "0::/a/b/c\n");
  write("sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n");
  write("sys/fs/cgroup/a/b/cpu.max", "150000 50000\n");
  write("sys/fs/cgroup/a/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 3.0);
  write("sys/fs/cgroup/cpu.max", "20000 10000\n");  // of a namespace's top
  EXPECT_EQ(quota(), 2.0);
}

TEST_F(Processors, AQuotaOfVersion1CountsAndMinusOneIsNone) {
  write("proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/pod/job\n");
  write("sys/fs/cgroup/cpu,cpuacct/pod/job/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu,cpuacct/pod/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_quota_us", "250000\n");
  write("sys/fs/cgroup/cpu,cpuacct/pod/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 2.5);
}

TEST_F(Processors, AContainerOfVersion1WithoutANamespaceFindsItsGroupAtItsMount) {
  write("proc/self/cgroup", "4:cpuacct,cpu:/docker/abc/inner\n");
  write("proc/self/mountinfo",
        "30 25 0:26 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n");
  write("sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "300000\n");
  write("sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 3.0);
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "100000\n");
  write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 1.0);
}

TEST_F(Processors, AGroupThatIsNotBelowWhatIsMountedFallsBackToTheMount) {
  for (const char* group : {"/", "/../other", "/elsewhere/job"}) {
    write("proc/self/cgroup", std::string("0::") + group + "\n");
    write("proc/self/mountinfo",
          "30 25 0:26 /pods/me /sys/fs/cgroup ro,nosuid master:1 - cgroup2 cgroup2 rw,nsdelegate\n");
    write("sys/fs/cgroup/cpu.max", "60000 100000\n");
    EXPECT_EQ(quota(), 0.6) << group;
  }
}

TEST_F(Processors, HierarchiesMayBeMountedAnywhereAndBeside) {
  write("proc/self/cgroup", "3:cpu:/old\n0::/new\n");
  write("proc/self/mountinfo",
        "20 1 0:20 / /proc rw - proc proc rw\n"
        "31 25 0:27 / /c\\040groups/two rw - cgroup2 none rw\n"
        "32 25 0:28 / /c\\040groups/one rw - cgroup none rw,cpu\n"
        "33 25 0:29 / /c\\040groups/mem rw - cgroup none rw,memory\n");
  write("c groups/two/new/cpu.max", "700000 100000\n");
  EXPECT_EQ(quota(), 7.0);
  write("c groups/one/old/cpu.cfs_quota_us", "500000\n");
  write("c groups/one/old/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(quota(), 5.0);
}

TEST_F(Processors, FilesThatSayNothingSensibleAreNoQuota) {
  write("proc/self/cgroup", "0::/job\nnonsense\n::\n");
  for (const char* text : {"", "x y\n", "50000\n", "50000 0\n", "0 100000\n", "-5 100000\n"}) {
    write("sys/fs/cgroup/job/cpu.max", text);
    EXPECT_EQ(quota(), std::nullopt) << text;
  }
}

TEST_F(Processors, AQuotaIsRoundedDownAndOneIsTheLeast) {
  EXPECT_EQ(usable(8, std::nullopt), 8);
  EXPECT_EQ(usable(8, 0.5), 1);
  EXPECT_EQ(usable(8, 1.5), 1);
  EXPECT_EQ(usable(8, 2.0), 2);
  EXPECT_EQ(usable(8, 3.9999), 4);
  EXPECT_EQ(usable(8, 64.0), 8);
  EXPECT_EQ(usable(1, 4.0), 1);
  EXPECT_EQ(usable(0, std::nullopt), 1);
}

#ifdef __linux__
TEST_F(Processors, AThreadThatIsBoundToOneProcessorMayUseOne) {
  int bound = 0;
  std::thread([&] {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    int first = 0;
    while (!CPU_ISSET(first, &allowed)) ++first;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    bound = usable_processors();
  }).join();
  EXPECT_EQ(bound, 1);
  EXPECT_GE(usable_processors(), 1);
}
#endif

}  // namespace
}  // namespace odmoe
