// How much memory this process uses and could use.
#pragma once

#include <cstdint>
#include <filesystem>

namespace odmoe {

// Bytes of this process that are in physical memory now; 0 where the system does not say.
uint64_t resident_bytes();

// The most that resident_bytes() has been since the program began.
uint64_t peak_resident_bytes();

// Bytes this process may still take before the system swaps or kills: the smallest of MemAvailable
// and what each enclosing cgroup (v1 or v2) has left.  0 where nothing is left or the system does not say.
uint64_t available_bytes();

// Time since the system started in which some task waited for memory (pressure stall information): of this
// process's own cgroup (v2) where it has one that says so, else of the machine.  Only differences have a
// meaning.  0 where the system does not say.
uint64_t memory_stall_us();

// The Linux readings behind the functions above, with /proc and /sys looked for under `root`, so that tests
// can describe any machine.  0 where the files are missing or say nothing.
namespace linux_memory {
uint64_t resident_bytes(const std::filesystem::path& root);
uint64_t peak_resident_bytes(const std::filesystem::path& root);
uint64_t available_bytes(const std::filesystem::path& root);
uint64_t memory_stall_us(const std::filesystem::path& root);
}  // namespace linux_memory

}  // namespace odmoe
