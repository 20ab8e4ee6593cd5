#include "cli/model_name.h"

#include <memory>
#include <optional>
#include <utility>

#include "cli/output.h"
#include "cli/pull_watcher.h"
#include "hub/curl_http.h"
#include "hub/lm_studio.h"
#include "hub/names.h"
#include "hub/ollama.h"

namespace odmoe::cli {

Result<hub::PulledModel> pull_model(const hub::RepoName& name, const HubSettings& settings, bool asks) {
  ODMOE_ASSIGN_OR_RETURN(const auto api, hub::make_curl_http(settings.curl));
  ODMOE_ASSIGN_OR_RETURN(const auto data, hub::make_curl_http(settings.curl));
  PullTerminal terminal(asks);
  auto pulled = hub::pull(name, settings.pull, *api, *data, terminal);
  terminal.finish();
  if (!pulled.has_value() && pulled.error().kind == ErrorKind::kInterrupted) {
    say(terminal.declined() ? "not downloaded"
                            : "stopped; what came is kept, and the same command goes on from there");
  }
  return pulled;
}

Result<std::filesystem::path> find_model(const std::string& name) {
  const hub::Place place = hub::place_of(name);
  const std::string_view rest = hub::without_prefix(name);
  if (place == hub::Place::kPath) return name;
  ODMOE_ASSIGN_OR_RETURN(const HubSettings settings, hub_settings());
  if (place == hub::Place::kOllama) {
    ODMOE_ASSIGN_OR_RETURN(const hub::OllamaName model, hub::parse_ollama_name(rest));
    return hub::find_ollama_model(settings.folders.ollama, model);
  }
  ODMOE_ASSIGN_OR_RETURN(const hub::RepoName repo, hub::parse_repo_name(rest));
  if (place == hub::Place::kLmStudio) return hub::find_lm_studio_model(settings.folders.lm_studio, repo);
  ODMOE_ASSIGN_OR_RETURN(const auto found, hub::find_in_cache(repo, settings.pull.cache));
  if (found) return found->path;
  return pull_model(repo, settings, /*asks=*/true).transform([](hub::PulledModel model) {
    return std::move(model.path);
  });
}

Action with_model(std::filesystem::path& model, Action action) {
  return [&model, action = std::move(action)]() -> Result<int> {
    ODMOE_ASSIGN_OR_RETURN(model, find_model(model.string()));
    return action();
  };
}

Action with_model(std::string& model, Action action) {
  return [&model, action = std::move(action)]() -> Result<int> {
    ODMOE_ASSIGN_OR_RETURN(const std::filesystem::path path, find_model(model));
    model = path.string();
    return action();
  };
}

std::string name_for_clients(const std::string& model) {
  if (hub::place_of(model) != hub::Place::kOllama) return {};
  return std::string(hub::without_prefix(model));
}

}  // namespace odmoe::cli
