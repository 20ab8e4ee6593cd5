// How people name a model that is not a path: where it is, and which of several files of it.
//
//   hf:OWNER/REPO[:QUANTISATION][@REVISION]     hf:OWNER/REPO/FOLDER/FILE.gguf[@REVISION]
//   ollama:[HOST/][NAMESPACE/]NAME[:TAG]        lmstudio:OWNER/REPO[:QUANTISATION] or .../FILE.gguf
//
// Names come from people and from servers: none that is accepted here leads out of the folder it is used in.
#pragma once

#include <string>
#include <string_view>

#include "odmoe/result.h"

namespace odmoe::hub {

enum class Place { kPath, kHub, kOllama, kLmStudio };

// By the prefix; a path that begins like one is written ./hf:...
Place place_of(std::string_view name);

// What stands behind the prefix.
std::string_view without_prefix(std::string_view name);

struct RepoName {
  std::string owner, repo;
  std::string file;          // a path in the repository; empty: chosen by quantisation
  std::string quantisation;  // empty: the default (choice.h)
  std::string revision = "main";

  std::string id() const { return owner + "/" + repo; }
};

// Of what stands behind hf: or lmstudio:.  kUsage, saying what is expected.
Result<RepoName> parse_repo_name(std::string_view text);

struct OllamaName {
  std::string host = "registry.ollama.ai", space = "library", model, tag = "latest";

  // With what is the default left out: "qwen3:30b".
  std::string shown() const;
};

// Of what stands behind ollama:.  kUsage.
Result<OllamaName> parse_ollama_name(std::string_view text);

// A relative path of plain parts: none is empty, "." or "..", there are no control characters or backslashes,
// and it is not longer than a file system takes.
bool is_plain_path(std::string_view path);

// So many lower-case hexadecimal digits.
bool is_hex(std::string_view text, size_t digits);

}  // namespace odmoe::hub
