// What `--device auto` means: the device that computes the dense part of a model fastest on this machine.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "odmoe/options.h"
#include "odmoe/result.h"
#include "odmoe/stats.h"

namespace odmoe {

// Tokens a second, without what was waited for drives.
struct DeviceSpeed {
  double prefill = 0, decode = 0;
  // Of the turn that docs/tuning.md makes short: a prompt of 2048 tokens and an answer of 256.
  double turn_seconds() const { return 2048 / prefill + 256 / decode; }
};

// What is asked of the world.
struct DeviceTrials {
  std::vector<DeviceInfo> devices;
  std::string model;    // its identity
  std::string kernels;  // ggml's version, the machine's kernel and drivers: what bits and speed depend on
  // kBudget, kUnsupported, kIo and kDeviceLost mean that the device cannot be; other errors end it all.
  std::function<Result<DeviceSpeed>(const std::string& device)> measure;
};

struct DeviceChoice {
  std::string device = "cpu";  // as EngineOptions::device names it
  std::string why;             // for people, one line; empty: there is only the processor
};

// A GPU is chosen that takes less time by this share, or else the processor is.
inline constexpr double kLeastDeviceGain = 0.05;

// A device is measured in rounds of a prompt and an answer, of which the first, in which shaders are compiled
// and experts read, does not count: in three, or once this time has passed in one that counts.
inline constexpr std::chrono::seconds kLongTrial{20};
bool wants_trial_round(int n_done, std::chrono::microseconds passed);
// Where memory does not hold all experts, each round reads most of those that its prompt wants.
int32_t longest_trial_prompt(const MemoryPlan& plan);

// Devices that are software are left out, and where there is only the processor nothing is measured, kept or
// said.  Else it is said that they are tried out, and how to do without.  What was found is kept in
// EngineOptions::device_file, under the model, the devices, `kernels` and the options that it depends on, and
// holds from then on, whatever is measured meanwhile: the budget is not among these, since no bit may depend
// on it.  Without a file, or where it cannot be written, the processor.
//
// A measurement that was begun and whose end nobody saw, since the driver ended the process, is not made
// again: it is the processor then, until that is forgotten.
Result<DeviceChoice> choose_device(const EngineOptions& options, const DeviceTrials& trials);
// What was kept, if anything: for plans, which measure nothing.
DeviceChoice kept_device(const EngineOptions& options, const DeviceTrials& trials);

// Forgets what was found for a model, of which `model` is the identity.  kIo.
Status forget_devices(const std::filesystem::path& file, const std::string& model);

// ggml, the machine's kernel and, where the system says it, NVIDIA's driver.
std::string kernels_and_drivers();

}  // namespace odmoe
