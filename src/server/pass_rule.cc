#include "server/pass_rule.h"

namespace odmoe::server {

size_t choose_pass(std::span<const SeatDoes> seats, size_t first, int32_t prompts,
                   std::vector<size_t>& chosen) {
  chosen.clear();
  for (size_t i = 0; i < seats.size(); ++i) {
    if (seats[i] == SeatDoes::kWrites) chosen.push_back(i);
  }
  size_t next = first;
  for (size_t i = 0; i < seats.size() && prompts > 0; ++i) {
    const size_t seat = (first + i) % seats.size();
    if (seats[seat] != SeatDoes::kReads) continue;
    chosen.push_back(seat);
    next = (seat + 1) % seats.size();
    --prompts;
  }
  return next;
}

}  // namespace odmoe::server
