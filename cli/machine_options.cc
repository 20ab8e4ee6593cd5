#include "cli/machine_options.h"

#include <string_view>

#include "base/numbers.h"
#include "base/units.h"

namespace odmoe::cli {

Result<double> parse_duration(const std::string& text) {
  const auto number = parse_double(text);
  const std::string_view unit = std::string_view(text).substr(number ? number->size : 0);
  const double seconds = unit == "us" ? 1e-6 : unit == "ms" ? 1e-3 : unit == "s" ? 1 : 0;
  if (!number || number->value < 0 || seconds == 0) {
    return fail(ErrorKind::kUsage, "'{}' is not a time; write it with its unit, like 50us or 0.5ms", text);
  }
  return number->value * seconds;
}

std::array<CLI::Option*, 3> add_machines(CLI::App& app, SeveralMachines& machines, const char* group) {
  return {
      app.add_option("--machines", machines.machines,
                     "How many such machines, that have the experts together (docs/scale.md)")
          ->type_name("N")
          ->capture_default_str()
          ->group(group),
      app.add_option("--network", machines.network,
                     "What goes between two of several machines, each way (1.25GB/s)")
          ->type_name("RATE")
          ->default_str("1.25GB/s")
          ->group(group),
      app.add_option("--latency", machines.latency,
                     "How long a short message takes from one to another (50us), what programs add included")
          ->type_name("TIME")
          ->default_str("50us")
          ->group(group)};
}

Status take_machines(const SeveralMachines& machines, Machine& machine) {
  machine.machines = machines.machines;
  if (machines.machines <= 1) return {};
  ODMOE_ASSIGN_OR_RETURN(machine.network_bytes_per_second, parse_rate(machines.network));
  ODMOE_ASSIGN_OR_RETURN(machine.latency_seconds, parse_duration(machines.latency));
  return {};
}

}  // namespace odmoe::cli
