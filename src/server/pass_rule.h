// Who takes part in a pass in which prompts are read and texts written together (SchedulerOptions::prompts):
// a pure function, which the scheduler follows and the simulator of a batch (batch/batch_simulator.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace odmoe::server {

enum class SeatDoes : uint8_t { kNothing, kReads, kWrites };

// Everybody who writes, in order, then the next of those who read from seat `first` on, at most `prompts`,
// into `chosen`.  Returns where the readers of the next pass begin.
size_t choose_pass(std::span<const SeatDoes> seats, size_t first, int32_t prompts,
                   std::vector<size_t>& chosen);

}  // namespace odmoe::server
