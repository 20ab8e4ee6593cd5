// Models that Ollama has on the disk, which are GGUFs named by their hashes:
//
//   MODELS/manifests/HOST/NAMESPACE/NAME/TAG     or, of newer versions, MODELS/manifests-v2/...: JSON
//   MODELS/blobs/sha256-...
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "hub/names.h"
#include "odmoe/result.h"

namespace odmoe::hub {

inline constexpr size_t kMaxManifestBytes = size_t{4} << 20U;

// What a manifest says; a list of manifests says only where the one for GGUFs is, if that is a blob of its
// own.
struct OllamaManifest {
  std::string model;     // SHA-256 of the GGUF, 64 hexadecimal digits
  std::string manifest;  // or that of the manifest to read instead
  uint64_t bytes = 0;    // of the GGUF
};

// kBadFile: not a manifest; kUnsupported: none of a GGUF.  Without a file's name, which the caller adds.
Result<OllamaManifest> parse_ollama_manifest(std::string_view json);

struct OllamaModel {
  OllamaName name;
  Result<std::filesystem::path> path;  // of the GGUF
};

// All of a folder; with an error those whose manifest or GGUF is damaged or missing.
std::vector<OllamaModel> ollama_models(const std::filesystem::path& models);

// The GGUF of one, in the first of these folders that has it.  kNotFound, kBadFile, kUnsupported.
Result<std::filesystem::path> find_ollama_model(const std::vector<std::filesystem::path>& folders,
                                                const OllamaName& name);

}  // namespace odmoe::hub
