#include "server/batch/batch_simulator.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "server/pass_rule.h"

namespace odmoe::server {

void simulate_passes(std::span<const SimulatedRequest> requests, int32_t width, int32_t prompts,
                     int32_t chunk, const std::function<void(const SimulatedPass&)>& pass) {
  struct Seat {
    int32_t to_read = 0, to_write = 0, there = 0;  // tokens
  };
  std::vector<Seat> seats(static_cast<size_t>(width));
  std::vector<SeatDoes> does(seats.size(), SeatDoes::kNothing);
  std::vector<size_t> chosen;
  size_t next_request = 0, first = 0;
  while (true) {
    for (size_t i = 0; i < seats.size() && next_request < requests.size(); ++i) {
      if (does[i] != SeatDoes::kNothing) continue;
      const SimulatedRequest& request = requests[next_request++];
      seats[i] = {.to_read = std::max(request.prompt_tokens, 1),
                  .to_write = std::max(request.written_tokens, 1)};
      does[i] = SeatDoes::kReads;
    }
    first = choose_pass(does, first, prompts, chosen);
    if (chosen.empty()) return;
    SimulatedPass now;
    for (const size_t i : chosen) {
      Seat& seat = seats[i];
      if (does[i] == SeatDoes::kWrites) {
        ++now.single;
        ++seat.there;
      } else {
        const int32_t n = std::min(seat.to_read, chunk);
        seat.to_read -= n;
        seat.there += n;
        n == 1 ? ++now.single : ++now.chunks;
        now.chunk_tokens += n == 1 ? 0 : n;
      }
      now.kv_tokens += seat.there;
      // With the last token that it reads it knows the first that it writes, which the next pass evaluates
      // unless it was the last.
      if (seat.to_read == 0) does[i] = --seat.to_write > 0 ? SeatDoes::kWrites : SeatDoes::kNothing;
    }
    pass(now);
  }
}

double dense_bytes_of(const SimulatedPass& pass, std::span<const SimulatedWeights> weights) {
  double bytes = 0;
  for (const SimulatedWeights& of_kind : weights) {
    int64_t reads = pass.chunks;
    for (int32_t left = pass.single; left > 0; left -= kJoined) {
      const int32_t together = std::min(left, kJoined);
      reads += (together + of_kind.columns - 1) / of_kind.columns;
    }
    bytes += static_cast<double>(reads) * of_kind.bytes;
  }
  return bytes;
}

PassCost cost_of(const SimulatedPass& pass, const SimulatedMachine& machine) {
  const double tokens = static_cast<double>(pass.single) + static_cast<double>(pass.chunk_tokens);
  const double absent = machine.n_expert * (1 - machine.share);  // of a layer
  const double missed = std::min(machine.n_expert_used * (1 - machine.hit_rate), absent);
  const double read = absent > 0 ? absent * (1 - std::pow(1 - missed / absent, tokens)) : 0;
  const auto most = [&](double n) { return machine.most ? machine.most(n) : n; };
  PassCost cost{.read_bytes = machine.n_layer * read * machine.expert_bytes,
                .dense_bytes = dense_bytes_of(pass, machine.dense)};
  // A machine has no more than its share of them.
  const double most_read = std::min(most(read), machine.n_expert / machine.machines);
  cost.read_seconds = machine.n_layer * most_read * machine.expert_bytes / machine.drive_bytes_per_second;
  const double of_experts = machine.n_layer * machine.n_expert_used * machine.expert_bytes;
  // Of what tokens want of a layer, the part of the machine that has most of it.
  const auto part = [&](double n) {
    return n > 0 ? most(n * machine.n_expert_used) / (n * machine.n_expert_used) : 1;
  };
  const double single = pass.single, chunk_tokens = static_cast<double>(pass.chunk_tokens);
  const double of_dense =
      dense_bytes_of({.single = 1, .chunks = 0, .chunk_tokens = 0, .kv_tokens = 0}, machine.dense);
  const double share_of_experts = of_experts / (of_dense + of_experts);
  const double dense_of_prompt = (1 - share_of_experts) / machine.prompt_tokens_per_second;  // for a token
  const double dense_read =
      dense_bytes_of({.single = pass.single, .chunks = 0, .chunk_tokens = 0, .kv_tokens = 0}, machine.dense) /
      machine.memory_bytes_per_second;
  const double least =
      std::min(single * dense_of_prompt, single * of_dense / machine.memory_bytes_per_second);
  cost.compute_seconds =
      std::max(dense_read, least) + (single * of_experts * part(single) +
                                     static_cast<double>(pass.kv_tokens) * machine.kv_bytes_per_token) /
                                        machine.memory_bytes_per_second;
  cost.compute_seconds += chunk_tokens * (dense_of_prompt + share_of_experts * part(chunk_tokens) /
                                                                machine.prompt_tokens_per_second);
  if (machine.machines > 1) {
    // To each other machine whose experts a token wants, and what they make of it back.
    const double others = (machine.machines - 1) / machine.machines;
    const double rows = (machine.machines - 1) * (1 - std::pow(others, machine.n_expert_used)) +
                        machine.n_expert_used * others;
    cost.network_seconds =
        machine.n_layer * (tokens * rows * machine.n_embd * sizeof(float) / machine.network_bytes_per_second +
                           2 * machine.latency_seconds);
  }
  return cost;
}

BatchForecast forecast(std::span<const SimulatedRequest> requests, int32_t width, int32_t prompts,
                       int32_t chunk, const SimulatedMachine& machine) {
  BatchForecast all{.requests = static_cast<double>(requests.size())};
  for (const SimulatedRequest& request : requests) {
    all.prompt_tokens += request.prompt_tokens;
    all.written_tokens += request.written_tokens;
  }
  simulate_passes(requests, width, prompts, chunk, [&](const SimulatedPass& pass) {
    const PassCost cost = cost_of(pass, machine);
    ++all.passes;
    all.read_bytes += cost.read_bytes;
    all.dense_bytes += cost.dense_bytes;
    all.read_seconds += cost.read_seconds;
    all.compute_seconds += cost.compute_seconds;
    all.network_seconds += cost.network_seconds;
    all.at_least_seconds += cost.at_least();
    all.at_most_seconds += cost.at_most();
  });
  return all;
}

}  // namespace odmoe::server
