#include "io/drive_file.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "odmoe/format.h"

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr std::streamsize kMaxFileBytes = 1 << 20;  // more is not one of ours
constexpr size_t kMaxDrives = 64;                   // of which the oldest are forgotten

// The file's object of drives; empty when it cannot be read.
Json load_drives(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) return Json::object();
  std::ifstream in(file, std::ios::binary);
  std::string text(static_cast<size_t>(kMaxFileBytes) + 1, '\0');
  in.read(text.data(), kMaxFileBytes + 1);
  if (in.gcount() > kMaxFileBytes) return Json::object();
  text.resize(static_cast<size_t>(in.gcount()));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("version", Json()) != kVersion) return Json::object();
  Json drives = json.value("drives", Json());
  return drives.is_object() ? drives : Json::object();
}

// A number in [least, most]; nothing for anything else.
std::optional<double> number(const Json& object, const char* name, double least, double most) {
  const auto field = object.find(name);
  if (field == object.end() || !field->is_number()) return std::nullopt;
  const auto value = field->get<double>();
  if (!(value >= least && value <= most)) return std::nullopt;
  return value;
}

}  // namespace

std::string drive_key(std::string_view drive_id, std::string_view reader_name) {
  utsname system{};
  const bool known = uname(&system) == 0;
  return odmoe::format("{}, {}, {} {}", drive_id, reader_name, known ? system.sysname : "",
                       known ? system.release : "");
}

std::optional<DriveProfile> load_profile(const std::filesystem::path& file, const std::string& key) {
  const Json drives = load_drives(file);
  const auto entry = drives.find(key);
  if (entry == drives.end() || !entry->is_object()) return std::nullopt;
  const auto depth = number(*entry, "depth", 1, 1024);
  const auto read_bytes = number(*entry, "read_bytes", 4096, 1 << 30);
  const auto bandwidth = number(*entry, "bytes_per_second", 1, 1e15);
  const auto latency = number(*entry, "latency_us", 0, 1e9);
  if (!depth || !read_bytes || !bandwidth || !latency) return std::nullopt;
  return DriveProfile{.depth = static_cast<uint32_t>(*depth),
                      .read_bytes = static_cast<uint32_t>(*read_bytes),
                      .bytes_per_second = *bandwidth,
                      .latency_us = static_cast<int64_t>(*latency)};
}

Status save_profile(const std::filesystem::path& file, const std::string& key, const DriveProfile& profile) {
  Json drives = load_drives(file);
  drives.erase(key);
  while (drives.size() >= kMaxDrives) drives.erase(drives.begin());
  drives[key] = {{"depth", profile.depth},
                 {"read_bytes", profile.read_bytes},
                 {"bytes_per_second", std::round(profile.bytes_per_second)},
                 {"latency_us", profile.latency_us}};
  const std::string text = Json{{"version", kVersion}, {"drives", std::move(drives)}}.dump(
                               2, ' ', true, Json::error_handler_t::replace) +
                           "\n";

  std::error_code error;
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path(), error);
  // Under another name first: a reader never sees half a file.
  const std::filesystem::path draft = file.string() + "." + std::to_string(getpid());
  std::ofstream out(draft, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (out.fail()) {
    std::filesystem::remove(draft, error);
    return fail(ErrorKind::kIo, "cannot keep what the drive can do in {}: it cannot be written",
                file.string());
  }
  std::filesystem::rename(draft, file, error);
  if (error) {
    const std::string why = error.message();
    std::filesystem::remove(draft, error);
    return fail(ErrorKind::kIo, "cannot keep what the drive can do in {}: {}", file.string(), why);
  }
  return {};
}

}  // namespace odmoe
