// MODEL as people give it: a path, or a name of the hub, of Ollama or of LM Studio (hub/names.h).
#pragma once

#include <filesystem>
#include <string>

#include "cli/command.h"
#include "cli/hub_settings.h"

namespace odmoe::cli {

// What the option's help says of it.
inline constexpr const char* kModelHelp =
    "A GGUF file, the first of a split one, or an expert directory; or hf:OWNER/REPO[:QUANTISATION], which "
    "is "
    "downloaded where it is not there yet, ollama:NAME[:TAG], lmstudio:OWNER/REPO[:QUANTISATION]";

// Downloads `name` as far as it is not there, and says so to people.
Result<hub::PulledModel> pull_model(const hub::RepoName& name, const HubSettings& settings, bool asks);

// The path of what is meant; a path is itself.  A model of the hub that the cache has is run without asking
// the hub; `odmoe pull` is what brings the newest.
Result<std::filesystem::path> find_model(const std::string& name);

// `action` once `model` is a path, which it is made before; both have to live as long as the action.
Action with_model(std::filesystem::path& model, Action action);
Action with_model(std::string& model, Action action);

// What a server calls it, where the path that it leads to would not say (Ollama's are hashes); empty: the
// path says.
std::string name_for_clients(const std::string& model);

}  // namespace odmoe::cli
