// odmoe list: the models on this disk, whoever brought them.
#include "cli/list.h"

#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "base/units.h"
#include "cli/command.h"
#include "cli/hub_settings.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "format/checkpoint.h"
#include "format/printable.h"
#include "hub/quantisation.h"
#include "odmoe/engine.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

constexpr std::array<const char*, 3> kRunsNames = {"yes", "no", "damaged"};

const char* runs_name(Runs runs) { return kRunsNames[static_cast<size_t>(runs)]; }

// What the metadata calls its types, or the type of most bytes.
std::string quantisation_of(const Checkpoint& file) {
  if (const auto type = file.get_int("general.file_type"); type.has_value()) {
    if (const std::string_view name = hub::file_type_name(*type); !name.empty()) return std::string(name);
  }
  std::vector<std::pair<uint64_t, ggml_type>> types;
  for (const TensorInfo& tensor : file.tensors()) {
    auto found = std::ranges::find(types, tensor.type, &std::pair<uint64_t, ggml_type>::second);
    if (found == types.end()) found = types.insert(types.end(), {0, tensor.type});
    found->first += tensor.bytes;
  }
  if (types.empty()) return {};
  std::string name = ggml_type_name(std::ranges::max(types).second);
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; });
  return name;
}

ListedModel refuse(ListedModel listed, const Error& error) {
  listed.runs = error.kind == ErrorKind::kUnsupported ? Runs::kNo : Runs::kDamaged;
  listed.reason = error.message;
  return listed;
}

struct ListCommand {
  bool json = false;
};

Result<int> list(const ListCommand& options) {
  ODMOE_ASSIGN_OR_RETURN(const HubSettings settings, hub_settings());
  std::vector<hub::LocalModel> found = hub::local_models(settings.folders);
  std::vector<ListedModel> models;
  Progress bar("Looking into models");
  for (hub::LocalModel& model : found) {
    if (interrupt::pending()) return fail(ErrorKind::kInterrupted, "interrupted");
    bar.update(static_cast<double>(models.size()) / static_cast<double>(found.size()), model.name);
    models.push_back(look_into(std::move(model)));
  }
  bar.finish();
  if (models.empty() && !options.json) {
    say("no models found in the folders of Hugging Face's hub, Ollama and LM Studio; `odmoe pull` brings "
        "one");
  }
  Output output = Output::standard_output();
  (void)output.write(options.json ? list_json(models) : list_text(models));
  return output.exit_code();
}

}  // namespace

ListedModel look_into(hub::LocalModel model) {
  ListedModel listed{.model = std::move(model)};
  listed.quantisation = listed.model.quantisation;
  if (listed.model.path.empty() || !listed.model.wrong.empty()) {
    listed.runs = Runs::kDamaged;
    listed.reason = listed.model.wrong;
    return listed;
  }
  const auto file = open_checkpoint(listed.model.path);
  if (!file.has_value()) return refuse(std::move(listed), file.error());
  listed.architecture = printable((*file)->get_string("general.architecture").value_or(""), 40);
  listed.model.bytes = (*file)->total_bytes();
  listed.model.n_file = static_cast<int>((*file)->files().size());
  if (listed.quantisation.empty()) listed.quantisation = quantisation_of(**file);
  const auto info = Engine::inspect({.model = listed.model.path});
  if (!info.has_value()) return refuse(std::move(listed), info.error());
  const auto left_over = std::ranges::find(info->left_over, true, &LeftOver::refused);
  if (left_over != info->left_over.end()) {
    listed.reason = odmoe::format("{} is not used, and results depend on it", left_over->name);
    return listed;
  }
  listed.runs = Runs::kYes;
  return listed;
}

std::string list_text(std::span<const ListedModel> models) {
  if (models.empty()) return {};
  std::vector<std::array<std::string, 5>> rows = {{"NAME", "SIZE", "FAMILY", "QUANTISATION", "RUNS"}};
  for (const ListedModel& listed : models) {
    rows.push_back({printable(listed.model.name, 200),
                    listed.model.bytes > 0 ? format_bytes(listed.model.bytes) : "-",
                    listed.architecture.empty() ? "-" : listed.architecture,
                    listed.quantisation.empty() ? "-" : printable(listed.quantisation),
                    listed.reason.empty()
                        ? runs_name(listed.runs)
                        : odmoe::format("{}: {}", runs_name(listed.runs), printable(listed.reason, 300))});
  }
  std::array<size_t, 4> widths{};
  for (const auto& row : rows) {
    for (size_t i = 0; i < widths.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    text += odmoe::format("{:<{}}  {:>{}}  {:<{}}  {:<{}}  {}\n", row[0], widths[0], row[1], widths[1],
                          row[2], widths[2], row[3], widths[3], row[4]);
  }
  return text;
}

std::string list_json(std::span<const ListedModel> models) {
  auto json = nlohmann::ordered_json::array();
  for (const ListedModel& listed : models) {
    json.push_back({{"name", listed.model.name},
                    {"path", listed.model.path.string()},
                    {"bytes", listed.model.bytes},
                    {"files", listed.model.n_file},
                    {"architecture", listed.architecture},
                    {"quantisation", listed.quantisation},
                    {"runs", runs_name(listed.runs)},
                    {"reason", listed.reason}});
  }
  // Names of files may hold any bytes.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void add_list(CLI::App& app, Action& action) {
  const auto options = std::make_shared<ListCommand>();
  CLI::App* command = app.add_subcommand("list", "List the models on this disk that can be named");
  command->add_flag("--json", options->json, "For programs; sizes in bytes")->group("Report");
  command->footer(
      "Looked through are the cache of Hugging Face's hub (HF_HUB_CACHE, HF_HOME), Ollama's folder "
      "(OLLAMA_MODELS)\n"
      "and LM Studio's. Each name can be given as MODEL to every command, which runs it from where it is. A "
      "split\n"
      "model is one entry; what is damaged or cannot be run is listed with the reason.\n"
      "\n"
      "Examples:\n"
      "  odmoe list\n"
      "  odmoe list --json | jq -r '.[] | select(.runs == \"yes\") | .name'\n"
      "  odmoe run ollama:qwen3:30b -p 'Once upon a time'");
  command->callback([&action, options] { action = [options] { return list(*options); }; });
}

}  // namespace odmoe::cli
