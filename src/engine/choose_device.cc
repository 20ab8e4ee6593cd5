#include "engine/choose_device.h"

#include <spdlog/spdlog.h>
#include <sys/utsname.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <utility>

#include "backend/backend.h"
#include "base/processors.h"
#include "io/kept_file.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

KeptFile kept_devices(const std::filesystem::path& file) {
  return {file, "devices", "which device is fastest"};
}

std::vector<DeviceInfo> candidates(const DeviceTrials& trials) {
  std::vector<DeviceInfo> found;
  for (const DeviceInfo& device : trials.devices) {
    if (device.kind != DeviceInfo::Kind::kCpu && !device.is_software) found.push_back(device);
  }
  return found;
}

std::string choice_key(const EngineOptions& options, const DeviceTrials& trials) {
  std::string key = odmoe::format(
      "{}: context {}, cache {}, chunk {}, flash attention {}, {} sessions, {} threads, {} processors",
      trials.model, options.context, static_cast<int>(options.cache_type), options.chunk,
      static_cast<int>(options.flash_attention), options.sessions, options.threads, usable_processors());
  if (options.experts != ExpertPlacement::kHost)
    key += odmoe::format(", experts {}", placement_name(options.experts));
  if (options.device_memory_bytes > 0)
    key += odmoe::format(", {} bytes of a device", options.device_memory_bytes);
  for (const DeviceInfo& device : trials.devices) {
    if (device.is_software) continue;
    key += odmoe::format("; {}: {}, {} bytes", device.name, device.description,
                         device.kind == DeviceInfo::Kind::kCpu ? 0 : device.memory_bytes);
  }
  return key + "; " + trials.kernels;
}

bool cannot_be(const Error& error) {
  return error.kind == ErrorKind::kBudget || error.kind == ErrorKind::kUnsupported ||
         error.kind == ErrorKind::kIo || error.kind == ErrorKind::kDeviceLost;
}

std::string speed_text(const std::string& device, const DeviceSpeed& speed) {
  return odmoe::format("{} {:.1f} and {:.1f} tokens/s", device, speed.prefill, speed.decode);
}

// Of what is in the file, if it makes sense.
std::optional<DeviceChoice> kept_choice(const KeptFile& file, const std::string& key,
                                        const std::vector<DeviceInfo>& devices) {
  const auto entry = file.load(key);
  if (!entry) return std::nullopt;
  const auto device = entry->find("device");
  const auto why = entry->find("why");
  if (device == entry->end() || !device->is_string() || why == entry->end() || !why->is_string())
    return std::nullopt;
  DeviceChoice choice{.device = device->get<std::string>(), .why = why->get<std::string>()};
  const bool there =
      choice.device == "cpu" || std::ranges::contains(devices, choice.device, &DeviceInfo::name);
  return there ? std::optional(std::move(choice)) : std::nullopt;
}

}  // namespace

bool wants_trial_round(int n_done, std::chrono::microseconds passed) {
  constexpr int kRounds = 3;
  return n_done < 2 || (n_done < kRounds && passed < kLongTrial);
}

int32_t longest_trial_prompt(const MemoryPlan& plan) {
  constexpr int32_t kLong = 256, kShort = 64;
  return plan.n_slot < plan.n_expert_total ? kShort : kLong;
}

DeviceChoice kept_device(const EngineOptions& options, const DeviceTrials& trials) {
  const std::vector<DeviceInfo> devices = candidates(trials);
  if (devices.empty() || options.device_file.empty()) return {};
  return kept_choice(kept_devices(options.device_file), choice_key(options, trials), devices)
      .value_or(DeviceChoice{.device = "cpu", .why = "no device was measured for this model yet"});
}

Result<DeviceChoice> choose_device(const EngineOptions& options, const DeviceTrials& trials) {
  const std::vector<DeviceInfo> devices = candidates(trials);
  if (devices.empty() || options.device_file.empty()) return DeviceChoice{};
  const KeptFile file = kept_devices(options.device_file);
  const std::string key = choice_key(options, trials);
  if (auto kept = kept_choice(file, key, devices)) return std::move(*kept);

  const auto keep = [&](const DeviceChoice& choice) {
    return file.save(key, {{"device", choice.device}, {"why", choice.why}});
  };
  std::string names;
  for (const DeviceInfo& device : devices) names += " or " + device.name;
  spdlog::warn(
      "trying out once whether the processor{} computes {} fastest: the model is opened on each, and many of "
      "its experts are read; --device cpu does without",
      names, options.model.string());
  const auto cpu = trials.measure("cpu");
  if (!cpu.has_value()) return std::unexpected(cpu.error());
  DeviceChoice choice;
  std::string seen = speed_text("a prompt and an answer: the processor", *cpu);
  double least_seconds = cpu->turn_seconds() * (1 - kLeastDeviceGain);
  for (const DeviceInfo& device : devices) {
    // Where it cannot be kept it would be found anew each time, and could be another.
    const Status kept =
        keep({.device = "cpu",
              .why = odmoe::format("{} was tried out and did not come to an end; odmoe tune --forget "
                                   "has it tried again, --device {} uses it",
                                   device.name, device.name)});
    if (!kept.has_value()) return DeviceChoice{.device = "cpu", .why = kept.error().message};
    const auto speed = trials.measure(device.name);
    if (!speed.has_value() && !cannot_be(speed.error())) {
      static_cast<void>(file.save(key, nlohmann::ordered_json::object()));  // it says nothing of the device
      return std::unexpected(speed.error());
    }
    seen += speed.has_value() ? "; " + speed_text(device.name, *speed)
                              : odmoe::format("; {} cannot be used: {}", device.name, speed.error().message);
    if (!speed.has_value() || speed->turn_seconds() >= least_seconds) continue;
    least_seconds = speed->turn_seconds();
    choice.device = device.name;
  }
  choice.why = std::move(seen);
  if (const Status kept = keep(choice); !kept.has_value())
    return DeviceChoice{.device = "cpu", .why = kept.error().message};
  spdlog::info("{}: {}", choice.device, choice.why);
  return choice;
}

Status forget_devices(const std::filesystem::path& file, const std::string& model) {
  return file.empty() ? Status() : kept_devices(file).forget(model + ":");
}

std::string kernels_and_drivers() {
  utsname system{};
  std::string text = "ggml " + ggml_build();
  if (uname(&system) == 0) text += odmoe::format(", {} {}", system.sysname, system.release);
  std::ifstream nvidia("/sys/module/nvidia/version");
  if (std::string version; std::getline(nvidia, version)) text += ", nvidia " + version;
  return text;
}

}  // namespace odmoe
