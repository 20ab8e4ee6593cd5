// Small helps for the tests of everything that reads files.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace odmoe {

// Bytes that differ from place to place and from seed to seed, so that a byte from elsewhere shows.
inline std::byte pattern_byte(uint64_t seed, uint64_t position) {
  uint64_t x = (position + 1) * 0x9e3779b97f4a7c15U ^ (seed + 1) * 0xd1b54a32d192ed03U;
  x ^= x >> 29U;
  x *= 0xbf58476d1ce4e5b9U;
  return static_cast<std::byte>(x >> 56U);
}

inline std::vector<std::byte> pattern(uint64_t bytes, uint64_t seed = 0) {
  std::vector<std::byte> data(bytes);
  for (uint64_t i = 0; i < bytes; ++i) data[i] = pattern_byte(seed, i);
  return data;
}

// A folder of its own for a test, removed with everything in it.
class TemporaryFolder {
 public:
  // `base`: where; the tests' default when empty.
  explicit TemporaryFolder(const std::filesystem::path& base = {}) {
    static std::atomic<int> count = 0;
    path_ = (base.empty() ? std::filesystem::path(::testing::TempDir()) : base) /
            ("odmoe_test_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(std::string_view name, std::span<const std::byte> data) const {
    const auto file = path_ / name;
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace odmoe
