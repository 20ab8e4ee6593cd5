// odmoe devices: what can compute here.
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/inference_options.h"
#include "cli/model_name.h"
#include "cli/output.h"
#include "cli/report.h"
#include "engine/device_support.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

struct DevicesOptions {
  EngineOptions engine;
  bool json = false;
};

std::string kind_text(DeviceInfo::Kind kind) {
  switch (kind) {
    case DeviceInfo::Kind::kCpu:
      return "processor";
    case DeviceInfo::Kind::kGpu:
      return "GPU";
    case DeviceInfo::Kind::kIntegratedGpu:
      return "GPU that shares the processor's memory";
  }
  std::unreachable();
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

struct Shown {
  DeviceInfo info;
  // Of the model that was named.
  std::vector<std::string> lacking;
  std::vector<PlacementVerdict> placements;
};

std::string text_of(const Shown& shown, bool of_model) {
  const DeviceInfo& info = shown.info;
  std::vector<std::pair<std::string, std::string>> rows{{"is", info.description},
                                                        {"kind", kind_text(info.kind)}};
  rows.emplace_back("memory", info.memory_bytes == 0
                                  ? "it does not say"
                                  : odmoe::format("{}, {} free{}", format_bytes(info.memory_bytes),
                                                  format_bytes(info.free_bytes),
                                                  info.shares_host_memory ? ", of the host's" : ""));
  rows.emplace_back("reads host memory in place", info.reads_host_memory ? "yes" : "no");
  if (of_model) {
    rows.emplace_back("for this model", shown.lacking.empty()
                                            ? "all that its dense part and the stale gate need"
                                            : "lacks " + joined(shown.lacking));
    for (const PlacementVerdict& verdict : shown.placements) {
      rows.emplace_back(odmoe::format("experts: {}", placement_name(verdict.placement)),
                        verdict.obstacle.empty() ? "yes" : "no: " + verdict.obstacle);
    }
  }
  return info.name + "\n" + table(rows, Align::kLeft);
}

nlohmann::ordered_json json_of(const Shown& shown, bool of_model) {
  const DeviceInfo& info = shown.info;
  nlohmann::ordered_json json{
      {"name", info.name},
      {"description", info.description},
      {"kind", kind_text(info.kind)},
      {"memory_bytes", info.memory_bytes},
      {"free_bytes", info.free_bytes},
      {"reads_host_memory", info.reads_host_memory},
      {"shares_host_memory", info.shares_host_memory},
      {"computes_on_the_processor", info.is_software || info.kind == DeviceInfo::Kind::kCpu}};
  if (!of_model) return json;
  json["lacks"] = shown.lacking;
  auto& placements = json["expert_placements"] = nlohmann::ordered_json::object();
  for (const PlacementVerdict& verdict : shown.placements) {
    auto& obstacle = placements[std::string(placement_name(verdict.placement))];
    if (!verdict.obstacle.empty()) obstacle = verdict.obstacle;
  }
  return json;
}

Result<int> show_devices(const DevicesOptions& options) {
  const bool of_model = !options.engine.model.empty();
  std::vector<Shown> all;
  for (const DeviceInfo& info : found_devices()) {
    Shown shown{.info = info, .lacking = {}, .placements = {}};
    if (of_model) {
      ODMOE_ASSIGN_OR_RETURN(const auto device, Backend::create({.device = info.name}));
      ODMOE_ASSIGN_OR_RETURN(shown.lacking, lacking_on(*device, options.engine));
      // Experts are there only beside the dense part.
      if (shown.lacking.empty()) {
        ODMOE_ASSIGN_OR_RETURN(shown.placements, placements_on(*device, options.engine));
      }
    }
    all.push_back(std::move(shown));
  }
  std::string text;
  if (options.json) {
    auto json = nlohmann::ordered_json::array();
    for (const Shown& shown : all) json.push_back(json_of(shown, of_model));
    text = json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  } else {
    for (const Shown& shown : all) text += text_of(shown, of_model);
  }
  Output output = Output::standard_output();
  (void)output.write(text);
  return output.exit_code();
}

}  // namespace

void add_devices(CLI::App& app, Action& action) {
  const auto options = std::make_shared<DevicesOptions>();
  CLI::App* command = app.add_subcommand("devices", "List what can compute here, for --device");
  add_model(*command, options->engine)->required(false);
  command->add_flag("--json", options->json, "For programs; sizes in bytes")->group("Report");
  command->footer(
      "Devices are what ggml finds: the processor, and GPUs for which a backend of ggml is installed "
      "(Debian:\n"
      "libggml1-backend-vulkan). With a model, whether a device has all operations of its dense part in its\n"
      "types, and which --expert-placement would work there: made-up experts are computed on it. No weights\n"
      "are read.\n"
      "\n"
      "Examples:\n"
      "  odmoe devices\n"
      "  odmoe devices model.gguf\n"
      "  odmoe run model.gguf --device vulkan0");
  command->callback([&action, options] {
    if (options->engine.model.empty()) {
      action = [options] { return show_devices(*options); };
    } else {
      action = with_model(options->engine.model, [options] { return show_devices(*options); });
    }
  });
}

}  // namespace odmoe::cli
