#include "convert/journal.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

namespace odmoe {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxLineBytes = 8U << 20U;

std::string line_of(const std::string& file, const JournalEntry& entry) {
  return Json{{"file", file}, {"bytes", entry.bytes}, {"xxh3", entry.checksums}}.dump() + "\n";
}

std::string first_line(const std::string& identity) { return Json{{"making", identity}}.dump() + "\n"; }

}  // namespace

std::map<std::string, JournalEntry> Journal::read(const std::filesystem::path& path,
                                                  const std::string& identity) {
  std::ifstream in(path, std::ios::binary);
  std::map<std::string, JournalEntry> entries;
  std::string line;
  if (!std::getline(in, line) || line + "\n" != first_line(identity)) return entries;
  while (std::getline(in, line) && !in.eof()) {  // a line without its end was cut short
    if (line.size() > kMaxLineBytes) break;
    const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("file") || !json["file"].is_string() || !json.contains("bytes") ||
        !json["bytes"].is_number_unsigned() || !json.contains("xxh3") || !json["xxh3"].is_array()) {
      break;
    }
    JournalEntry entry{.bytes = json["bytes"].get<uint64_t>(), .checksums = {}};
    bool good = true;
    for (const Json& checksum : json["xxh3"]) {
      good = good && checksum.is_number_unsigned();
      if (good) entry.checksums.push_back(checksum.get<uint64_t>());
    }
    if (!good) break;
    entries[json["file"].get<std::string>()] = std::move(entry);
  }
  return entries;
}

Result<Journal> Journal::create(const std::filesystem::path& path, const std::string& identity,
                                const std::map<std::string, JournalEntry>& kept) {
  const std::filesystem::path fresh = path.string() + ".new";
  ODMOE_ASSIGN_OR_RETURN(OutputFile file, OutputFile::create(fresh));
  std::string text = first_line(identity);
  for (const auto& [name, entry] : kept) text += line_of(name, entry);
  ODMOE_RETURN_IF_ERROR(file.write(text));
  ODMOE_RETURN_IF_ERROR(file.sync());
  std::error_code error;
  std::filesystem::rename(fresh, path, error);
  if (error) return fail(ErrorKind::kIo, "cannot write {}: {}", path.string(), error.message());
  ODMOE_RETURN_IF_ERROR(sync_directory(path.parent_path()));
  return Journal(std::move(file));
}

Status Journal::add(const std::string& file, const JournalEntry& entry) {
  return file_.write(line_of(file, entry));
}

}  // namespace odmoe
