#include "hub/ollama.h"

#include <algorithm>
#include <array>
#include <optional>
#include <system_error>
#include <utility>

#include "base/json_members.h"
#include "base/ordered_json.h"
#include "base/whole_file.h"
#include "format/printable.h"
#include "hub/folder_listing.h"

namespace odmoe::hub {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 2> kFolders = {"manifests-v2", "manifests"};  // the newer first
constexpr size_t kMaxModels = 10'000;

const Json* member_of(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

std::string string_of(const Json* json) {
  return json != nullptr && json->is_string() ? json->get<std::string>() : std::string();
}

// The digits of "sha256:..."; empty: it is not one.
std::string digest_of(const Json& json) {
  const std::string digest = string_of(member_of(json, "digest"));
  constexpr std::string_view kMethod = "sha256:";
  if (!digest.starts_with(kMethod)) return {};
  std::string digits = digest.substr(kMethod.size());
  return is_hex(digits, 64) ? digits : std::string();
}

std::unexpected<Error> not_a_manifest(std::string_view why) {
  return fail(ErrorKind::kBadFile, "it is not a manifest of Ollama's: {}", why);
}

Result<OllamaManifest> from_layers(const Json& json) {
  const Json* const layers = member_of(json, "layers");
  if (layers == nullptr || !layers->is_array()) return not_a_manifest("it has no layers");
  for (const Json& layer : *layers) {
    if (string_of(member_of(layer, "mediaType")) != "application/vnd.ollama.image.model") continue;
    OllamaManifest manifest{.model = digest_of(layer), .manifest = {}};
    if (manifest.model.empty()) return not_a_manifest("its model has no SHA-256");
    const Json* const bytes = member_of(layer, "size");
    const auto number = bytes == nullptr ? std::nullopt : json_integer(*bytes);
    manifest.bytes = number && *number > 0 ? static_cast<uint64_t>(*number) : 0;
    return manifest;
  }
  return fail(ErrorKind::kUnsupported, "it has no GGUF");
}

// The one whose weights are a GGUF: for Ollama's own engine or for llama.cpp.
Result<OllamaManifest> from_list(const Json& list) {
  if (!list.is_array()) return not_a_manifest("its list is none");
  for (const std::string_view runner : {"ollama", "llamacpp"}) {
    for (const Json& entry : list) {
      if (string_of(member_of(entry, "runner")) != runner) continue;
      if (member_of(entry, "layers") != nullptr) return from_layers(entry);
      OllamaManifest manifest{.model = {}, .manifest = digest_of(entry)};
      if (manifest.manifest.empty()) return not_a_manifest("an entry has no SHA-256");
      return manifest;
    }
  }
  return fail(ErrorKind::kUnsupported, "it has no GGUF");
}

fs::path blob_of(const fs::path& models, const std::string& digest) {
  return models / "blobs" / ("sha256-" + digest);
}

Result<OllamaManifest> read_manifest(const fs::path& path) {
  ODMOE_ASSIGN_OR_RETURN(const std::string text, read_whole_text(path, kMaxManifestBytes));
  auto manifest = parse_ollama_manifest(text);
  if (!manifest.has_value()) {
    return fail(manifest.error().kind, "{}: {}", printable_path(path), manifest.error().message);
  }
  return manifest;
}

Result<fs::path> model_of(const fs::path& models, const fs::path& path) {
  ODMOE_ASSIGN_OR_RETURN(OllamaManifest manifest, read_manifest(path));
  if (!manifest.manifest.empty()) {
    const fs::path other = blob_of(models, manifest.manifest);
    ODMOE_ASSIGN_OR_RETURN(manifest, read_manifest(other));
    if (manifest.model.empty())
      return fail(ErrorKind::kBadFile, "{} leads to another list", printable_path(other));
  }
  fs::path blob = blob_of(models, manifest.model);
  std::error_code error;
  const uint64_t bytes = fs::file_size(blob, error);
  if (error)
    return fail(ErrorKind::kNotFound, "{}, which {} names, is missing: pull it with ollama again",
                printable_path(blob), printable_path(path));
  if (manifest.bytes != 0 && bytes != manifest.bytes) {
    return fail(ErrorKind::kBadFile, "{} has {} bytes instead of {}: pull it with ollama again",
                printable_path(blob), bytes, manifest.bytes);
  }
  return blob;
}

fs::path manifest_path(const fs::path& models, std::string_view folder, const OllamaName& name) {
  return models / folder / name.host / name.space / name.model / name.tag;
}

}  // namespace

Result<OllamaManifest> parse_ollama_manifest(std::string_view json) {
  const auto parsed = read_ordered_json(json, {.depth = 32, .bytes = size_t{64} << 20U});
  if (!parsed.has_value() || !parsed->is_object()) return not_a_manifest("it is not an object of JSON");
  if (const Json* list = member_of(*parsed, "manifests"); list != nullptr) return from_list(*list);
  return from_layers(*parsed);
}

std::vector<OllamaModel> ollama_models(const fs::path& models) {
  std::vector<OllamaModel> all;
  for (const std::string_view folder : kFolders) {
    const fs::path root = models / folder;
    for (const std::string& host : names_in(root)) {
      for (const std::string& space : names_in(root / host)) {
        for (const std::string& model : names_in(root / host / space)) {
          for (const std::string& tag : names_in(root / host / space / model)) {
            const auto name = parse_ollama_name(odmoe::format("{}/{}/{}:{}", host, space, model, tag));
            if (!name.has_value() || all.size() >= kMaxModels) continue;
            const bool known = std::ranges::any_of(
                all, [&](const OllamaModel& other) { return other.name.shown() == name->shown(); });
            if (!known)
              all.push_back({.name = *name, .path = model_of(models, manifest_path(models, folder, *name))});
          }
        }
      }
    }
  }
  return all;
}

Result<fs::path> find_ollama_model(const std::vector<fs::path>& folders, const OllamaName& name) {
  std::string looked;
  for (const fs::path& models : folders) {
    for (const std::string_view folder : kFolders) {
      const fs::path path = manifest_path(models, folder, name);
      std::error_code error;
      if (fs::exists(path, error)) return model_of(models, path);
    }
    looked += (looked.empty() ? "" : ", ") + models.string();
  }
  return fail(ErrorKind::kNotFound, "Ollama has no {} in {}: `odmoe list` shows what there is", name.shown(),
              looked.empty() ? "any folder" : looked);
}

}  // namespace odmoe::hub
