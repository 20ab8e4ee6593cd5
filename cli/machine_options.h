// Options that describe several machines (docs/scale.md).
#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <cstdint>
#include <string>

#include "cli/outlook.h"
#include "odmoe/result.h"

namespace odmoe::cli {

// "50us", "0.5ms", in seconds; kUsage.
Result<double> parse_duration(const std::string& text);

struct SeveralMachines {
  int32_t machines = 1;
  std::string network = "1.25GB/s", latency = "50us";
};

// --machines, --network and --latency, which write into `machines`.
std::array<CLI::Option*, 3> add_machines(CLI::App& app, SeveralMachines& machines, const char* group);
// What they say of `machine`.  kUsage.
Status take_machines(const SeveralMachines& machines, Machine& machine);

}  // namespace odmoe::cli
