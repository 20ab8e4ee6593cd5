#include "io/drive_file.h"

#include <sys/utsname.h>

#include <cmath>

#include "io/kept_file.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

KeptFile kept(const std::filesystem::path& file) { return {file, "drives", "what the drive can do"}; }

}  // namespace

std::string drive_key(std::string_view drive_id, std::string_view reader_name) {
  utsname system{};
  const bool known = uname(&system) == 0;
  return odmoe::format("{}, {}, {} {}", drive_id, reader_name, known ? system.sysname : "",
                       known ? system.release : "");
}

std::optional<DriveProfile> load_profile(const std::filesystem::path& file, const std::string& key) {
  const auto entry = kept(file).load(key);
  if (!entry) return std::nullopt;
  const auto depth = kept_number(*entry, "depth", 1, 1024);
  const auto read_bytes = kept_number(*entry, "read_bytes", 4096, 1 << 30);
  const auto bandwidth = kept_number(*entry, "bytes_per_second", 1, 1e15);
  const auto latency = kept_number(*entry, "latency_us", 0, 1e9);
  if (!depth || !read_bytes || !bandwidth || !latency) return std::nullopt;
  return DriveProfile{.depth = static_cast<uint32_t>(*depth),
                      .read_bytes = static_cast<uint32_t>(*read_bytes),
                      .bytes_per_second = *bandwidth,
                      .latency_us = static_cast<int64_t>(*latency)};
}

Status save_profile(const std::filesystem::path& file, const std::string& key, const DriveProfile& profile) {
  return kept(file).save(key, {{"depth", profile.depth},
                               {"read_bytes", profile.read_bytes},
                               {"bytes_per_second", std::round(profile.bytes_per_second)},
                               {"latency_us", profile.latency_us}});
}

}  // namespace odmoe
