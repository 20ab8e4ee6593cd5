#include "io/kept_file.h"

#include <unistd.h>

#include <fstream>
#include <system_error>

namespace odmoe {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
constexpr std::streamsize kMaxFileBytes = 1 << 20;  // more is not one of ours
constexpr size_t kMaxEntries = 64;                  // of which the oldest are forgotten

}  // namespace

Json KeptFile::entries() const {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file_, error)) return Json::object();
  std::ifstream in(file_, std::ios::binary);
  std::string text(static_cast<size_t>(kMaxFileBytes) + 1, '\0');
  in.read(text.data(), kMaxFileBytes + 1);
  if (in.gcount() > kMaxFileBytes) return Json::object();
  text.resize(static_cast<size_t>(in.gcount()));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("version", Json()) != kVersion) return Json::object();
  Json entries = json.value(member_, Json());
  return entries.is_object() ? entries : Json::object();
}

std::optional<Json> KeptFile::load(const std::string& key) const {
  const Json all = entries();
  const auto entry = all.find(key);
  if (entry == all.end() || !entry->is_object()) return std::nullopt;
  return *entry;
}

Status KeptFile::save(const std::string& key, Json entry) const {
  Json all = entries();
  all.erase(key);
  while (all.size() >= kMaxEntries) all.erase(all.begin());
  all[key] = std::move(entry);
  return write(std::move(all));
}

Status KeptFile::forget(const std::string& beginning) const {
  Json all = entries(), kept = Json::object();
  for (auto& [key, entry] : all.items()) {
    if (!key.starts_with(beginning)) kept[key] = std::move(entry);
  }
  return kept.size() == all.size() ? Status() : write(std::move(kept));
}

Status KeptFile::write(Json all) const {
  const std::string text = Json{{"version", kVersion}, {member_, std::move(all)}}.dump(
                               2, ' ', true, Json::error_handler_t::replace) +
                           "\n";

  std::error_code error;
  if (file_.has_parent_path()) std::filesystem::create_directories(file_.parent_path(), error);
  // Under another name first: a reader never sees half a file.
  const std::filesystem::path draft = file_.string() + "." + std::to_string(getpid());
  std::ofstream out(draft, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (out.fail()) {
    std::filesystem::remove(draft, error);
    return fail(ErrorKind::kIo, "cannot keep {} in {}: it cannot be written", what_, file_.string());
  }
  std::filesystem::rename(draft, file_, error);
  if (error) {
    const std::string why = error.message();
    std::filesystem::remove(draft, error);
    return fail(ErrorKind::kIo, "cannot keep {} in {}: {}", what_, file_.string(), why);
  }
  return {};
}

std::optional<double> kept_number(const Json& entry, const char* name, double least, double most) {
  const auto field = entry.find(name);
  if (field == entry.end() || !field->is_number()) return std::nullopt;
  const auto value = field->get<double>();
  if (!(value >= least && value <= most)) return std::nullopt;
  return value;
}

}  // namespace odmoe
