#include "base/memory_info.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/testing_root.h"
#include "base/units.h"

namespace odmoe {
namespace {

namespace fs = std::filesystem;

class MemoryInfo : public MachineTest {
 protected:
  uint64_t available() { return linux_memory::available_bytes(root_); }
};

TEST_F(MemoryInfo, WithoutCgroupsTheMachineDecides) {
  write("proc/meminfo", "MemTotal:       16384 kB\nMemFree:   100 kB\nMemAvailable:    8192 kB\n");
  EXPECT_EQ(available(), 8 * kMiB);
}

TEST_F(MemoryInfo, ASystemThatSaysNothingIsZero) {
  EXPECT_EQ(available(), 0U);
  EXPECT_EQ(linux_memory::resident_bytes(root_), 0U);
  EXPECT_EQ(linux_memory::peak_resident_bytes(root_), 0U);
}

TEST_F(MemoryInfo, ALimitOfVersion2IsFoundInAnAncestor) {
  write("proc/meminfo", "MemAvailable: 1048576 kB\n");
  write("proc/self/cgroup", "0::/user.slice/job.scope\n");
  write("sys/fs/cgroup/user.slice/memory.max", "104857600\n");
  write("sys/fs/cgroup/user.slice/memory.current", "41943040\n");
  write("sys/fs/cgroup/user.slice/job.scope/memory.max", "max\n");
  write("sys/fs/cgroup/user.slice/job.scope/memory.current", "41943040\n");
  EXPECT_EQ(available(), 60 * kMiB);
}

TEST_F(MemoryInfo, ThrottlingOfVersion2CountsAsALimit) {
  write("proc/self/cgroup", "0::/job\n");
  write("sys/fs/cgroup/job/memory.max", "104857600\n");
  write("sys/fs/cgroup/job/memory.high", "52428800\n");
  write("sys/fs/cgroup/job/memory.current", "10485760\n");
  EXPECT_EQ(available(), 40 * kMiB);
}

TEST_F(MemoryInfo, PageCacheOfTheGroupCountsAsAvailable) {
  write("proc/self/cgroup", "0::/job\n");
  write("sys/fs/cgroup/job/memory.max", "104857600\n");
  write("sys/fs/cgroup/job/memory.current", "94371840\n");
  write("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 41943040\nactive_file 10485760\n");
  EXPECT_EQ(available(), 60 * kMiB);
}

TEST_F(MemoryInfo, ALimitOfVersion1IsFoundInAnAncestor) {
  write("proc/meminfo", "MemAvailable: 1048576 kB\n");
  write("proc/self/cgroup", "5:devices:/\n4:cpu,memory:/jobs/one\n0::/\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "73400320\n");
  write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "104857600\n");
  write("sys/fs/cgroup/memory/jobs/memory.usage_in_bytes", "73400320\n");
  write("sys/fs/cgroup/memory/jobs/memory.stat", "inactive_file 1\ntotal_inactive_file 20971520\n");
  write("sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(available(), 50 * kMiB);
}

TEST_F(MemoryInfo, InAContainerThatSeesOnlyItsOwnGroupTheMountPointCounts) {
  write("proc/self/cgroup", "4:memory:/docker/0123456789\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "10485760\n");
  write("sys/fs/cgroup/memory/memory.usage_in_bytes", "4194304\n");
  EXPECT_EQ(available(), 6 * kMiB);
}

TEST_F(MemoryInfo, AControllerWhoseNameOnlyContainsMemoryIsAnother) {
  write("proc/meminfo", "MemAvailable: 1024 kB\n");
  write("proc/self/cgroup", "4:notmemory:/a\n");
  write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n");
  EXPECT_EQ(available(), kMiB);
}

TEST_F(MemoryInfo, AGroupOverItsLimitHasNothingLeftRatherThanAHugeAmount) {
  write("proc/self/cgroup", "0::/job\n");
  write("sys/fs/cgroup/job/memory.max", "1048576\n");
  write("sys/fs/cgroup/job/memory.current", "2097152\n");
  EXPECT_EQ(available(), 0U);
}

TEST_F(MemoryInfo, ResidentPagesAndPeakAreReadFromProc) {
  write("proc/self/statm", "1000 10 3 1 0 5 0\n");
  write("proc/self/status", "Name:\tx\nVmPeak:\t  9000 kB\nVmHWM:\t    1024 kB\n");
  EXPECT_EQ(linux_memory::resident_bytes(root_), 10 * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(linux_memory::peak_resident_bytes(root_), kMiB);
}

TEST_F(MemoryInfo, StallsAreThoseOfTheOwnGroupOrElseOfTheMachine) {
  EXPECT_EQ(linux_memory::memory_stall_us(root_), 0U);
  write(
      "proc/pressure/memory",
      "some avg10=0.00 avg60=0.12 avg300=0.05 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=9\n");
  EXPECT_EQ(linux_memory::memory_stall_us(root_), 4711U);
  write("proc/self/cgroup", "4:memory:/a\n0::/job\n");
  EXPECT_EQ(linux_memory::memory_stall_us(root_), 4711U);
  write("sys/fs/cgroup/job/memory.pressure", "some avg10=1.00 avg60=0.00 avg300=0.00 total=33\n");
  EXPECT_EQ(linux_memory::memory_stall_us(root_), 33U);
}

TEST_F(MemoryInfo, TheRealProcessSeesItsOwnGrowth) {
  const uint64_t before = resident_bytes();
  constexpr size_t kBytes = 64 * kMiB;
  std::vector<char> block(kBytes, 1);
  const uint64_t after = resident_bytes();
  EXPECT_GE(after, before + kBytes / 2);
  EXPECT_GE(peak_resident_bytes(), after / 2);
  EXPECT_GT(available_bytes(), 0U);
  EXPECT_EQ(block[kBytes / 2], 1);
}

}  // namespace
}  // namespace odmoe
