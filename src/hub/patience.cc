#include "hub/patience.h"

#include <algorithm>

namespace odmoe::hub {

std::chrono::milliseconds Patience::pause() const {
  std::chrono::milliseconds pause = limits_.first_pause;
  for (int i = 2; i < tries_ && pause < limits_.longest_pause; ++i) pause *= 2;
  return std::min(pause, limits_.longest_pause);
}

std::optional<std::chrono::milliseconds> Patience::fail(std::optional<std::chrono::seconds> asked) {
  if (++tries_ > limits_.tries) return std::nullopt;
  if (asked)
    return *asked <= limits_.longest_wait ? std::optional<std::chrono::milliseconds>(*asked) : std::nullopt;
  return tries_ == 1 ? std::chrono::milliseconds(0) : pause();
}

std::optional<std::chrono::milliseconds> Patience::be_told_to_wait(
    std::optional<std::chrono::seconds> asked) {
  if (++waits_ > limits_.waits || (asked && *asked > limits_.longest_wait)) return std::nullopt;
  if (asked) return *asked;
  ++tries_;
  return tries_ > limits_.tries ? std::nullopt : std::optional(pause());
}

}  // namespace odmoe::hub
