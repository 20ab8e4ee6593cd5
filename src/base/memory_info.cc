#include "base/memory_info.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/cgroup.h"

#ifdef __APPLE__
#include <mach/mach.h>
#endif

namespace odmoe {
namespace linux_memory {
namespace {

namespace fs = std::filesystem;

std::optional<uint64_t> parse_number(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} ? std::optional(value) : std::nullopt;
}

std::optional<std::string> first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line)) return std::nullopt;
  return line;
}

// A file that holds one number; nothing for "max", which is cgroup v2's "no limit".
std::optional<uint64_t> read_number(const fs::path& path) {
  const auto line = first_line(path);
  return line ? parse_number(*line) : std::nullopt;
}

// The number behind `key` in a file of lines "key value" or "key: value kB".
std::optional<uint64_t> read_field(const fs::path& path, std::string_view key) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    std::string_view rest = line;
    if (!rest.starts_with(key)) continue;
    rest.remove_prefix(key.size());
    if (rest.starts_with(':')) rest.remove_prefix(1);
    if (rest.starts_with(' ') || rest.starts_with('\t')) return parse_number(rest);
  }
  return std::nullopt;
}

// What differs between the two versions of the memory controller.
struct Controller {
  std::string_view max, high, current, inactive_file, active_file;
};
// v2's "high" throttles whoever goes above it, which is as bad as a limit; v1's soft limit does not, so v1
// names its limit twice.
constexpr Controller kV1{"memory.limit_in_bytes", "memory.limit_in_bytes", "memory.usage_in_bytes",
                         "total_inactive_file", "total_active_file"};
constexpr Controller kV2{"memory.max", "memory.high", "memory.current", "inactive_file", "active_file"};

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

// What the group in `folder` has left.  Its page cache counts as free, as it does in MemAvailable: the
// kernel gives it up before it kills.
uint64_t left_in_group(const fs::path& folder, const Controller& names) {
  const uint64_t limit = std::min(read_number(folder / names.max).value_or(kNoLimit),
                                  read_number(folder / names.high).value_or(kNoLimit));
  if (limit == kNoLimit) return kNoLimit;
  const uint64_t used = read_number(folder / names.current).value_or(0);
  const uint64_t cache = read_field(folder / "memory.stat", names.inactive_file).value_or(0) +
                         read_field(folder / "memory.stat", names.active_file).value_or(0);
  const uint64_t held = used - std::min(used, cache);
  return limit - std::min(limit, held);
}

// The microseconds behind "total=" in the line "some ..." of a file of pressure stall information.
std::optional<uint64_t> read_stall_us(const fs::path& path) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const size_t total = line.find("total=");
    if (line.starts_with("some ") && total != std::string::npos) {
      return parse_number(std::string_view(line).substr(total + 6));
    }
  }
  return std::nullopt;
}

uint64_t left_in_cgroups(const fs::path& root) {
  uint64_t left = kNoLimit;
  for (const CgroupFolder& folder : cgroup_folders(root, "memory")) {
    left = std::min(left, left_in_group(folder.path, folder.v2 ? kV2 : kV1));
  }
  return left;
}

}  // namespace

uint64_t resident_bytes(const fs::path& root) {
  const auto line = first_line(root / "proc/self/statm");  // pages: size resident shared ...
  if (!line) return 0;
  const size_t space = std::min(line->find(' '), line->size());
  const uint64_t pages = parse_number(std::string_view(*line).substr(space)).value_or(0);
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t peak_resident_bytes(const fs::path& root) {
  return read_field(root / "proc/self/status", "VmHWM").value_or(0) * 1024;
}

uint64_t available_bytes(const fs::path& root) {
  const auto machine = read_field(root / "proc/meminfo", "MemAvailable");
  const uint64_t left = std::min(machine ? *machine * 1024 : kNoLimit, left_in_cgroups(root));
  return left == kNoLimit ? 0 : left;
}

uint64_t memory_stall_us(const fs::path& root) {
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("0::/")) continue;
    const fs::path group = fs::path(line.substr(3)).relative_path();
    for (const char* mount : {"sys/fs/cgroup", "sys/fs/cgroup/unified"}) {
      if (const auto stall = read_stall_us(root / mount / group / "memory.pressure")) return *stall;
    }
  }
  return read_stall_us(root / "proc/pressure/memory").value_or(0);
}

}  // namespace linux_memory

#ifdef __APPLE__

uint64_t resident_bytes() {
  mach_task_basic_info info{};
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  const auto status =
      task_info(mach_task_self(), MACH_TASK_BASIC_INFO, reinterpret_cast<task_info_t>(&info), &count);
  return status == KERN_SUCCESS ? info.resident_size : 0;
}

uint64_t peak_resident_bytes() {
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<uint64_t>(usage.ru_maxrss) : 0;  // bytes here
}

uint64_t available_bytes() {
  vm_statistics64_data_t stat{};
  mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
  const auto status =
      host_statistics64(mach_host_self(), HOST_VM_INFO64, reinterpret_cast<host_info64_t>(&stat), &count);
  if (status != KERN_SUCCESS) return 0;
  // What the kernel can hand out without compressing or swapping: free pages, purgeable ones and file cache.
  const uint64_t pages = uint64_t{stat.free_count} + stat.purgeable_count + stat.external_page_count;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t memory_stall_us() { return 0; }

#else

uint64_t memory_stall_us() { return linux_memory::memory_stall_us("/"); }

uint64_t resident_bytes() { return linux_memory::resident_bytes("/"); }

uint64_t peak_resident_bytes() {
  // VmHWM first: ru_maxrss also remembers the process image before exec, that is, whoever started us.
  if (const uint64_t peak = linux_memory::peak_resident_bytes("/"); peak > 0) return peak;
  rusage usage{};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<uint64_t>(usage.ru_maxrss) * 1024 : 0;  // KiB here
}

uint64_t available_bytes() { return linux_memory::available_bytes("/"); }

#endif

}  // namespace odmoe
