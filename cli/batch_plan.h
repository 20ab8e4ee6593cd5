// What a batch comes to on a machine: how wide it is, and `odmoe batch --plan`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/hit_rates.h"
#include "cli/outlook.h"
#include "odmoe/engine.h"
#include "server/batch/batch_input.h"
#include "server/batch/batch_runner.h"
#include "server/batch/batch_simulator.h"

namespace odmoe::cli {

// How many sequences at once suit the memory: as many as have their KV caches in a quarter of what they share
// with the experts, a power of two, at most `most`.
int32_t width_for(uint64_t shared_bytes, uint64_t sequence_bytes, int32_t most);

// What a user chose; nothing: what suits the memory.
struct WantedWidth {
  std::optional<int32_t> width, prompts;
};
// Sets sessions, prompts and what is reserved.  `most`: requests that there are.  Errors: those of
// Engine::memory_plan().
Status settle_width(EngineOptions& options, const server::BatchOptions& batch, const WantedWidth& wanted,
                    size_t most);

// The sizes of requests of which only the text is known.
struct SizeGuess {
  double bytes_per_token = 4;    // of a request's body
  int32_t written_tokens = 256;  // where a request says nothing of it
};
// Of the lines that are requests, choices counted apart.  kIo.
Result<std::vector<server::SimulatedRequest>> sizes_of(const server::BatchInput& input,
                                                       const SizeGuess& guess, int32_t context);

struct PlannedWidth {
  int32_t width = 1, prompts = 1;
  uint64_t kv_bytes = 0;                // of full contexts
  double share = 0;                     // of the experts, in memory
  server::BatchForecast forecast = {};  // NOLINT(readability-redundant-member-init): as below
};

// NOLINTBEGIN(readability-redundant-member-init): GCC warns of designated initialisers that leave out a
// member without one.
struct BatchPlan {
  std::string file = {};
  ModelInfo model = {};
  Machine machine = {};
  uint64_t budget_bytes = 0;
  double prompt_tokens_per_second = 0;
  int32_t chunk = 512;
  int32_t chosen = 1;  // the width that a run has unless another one is asked for
  double requests = 0, prompt_tokens = 0, written_tokens = 0;
  std::vector<PlannedWidth> widths = {};
};
// NOLINTEND(readability-redundant-member-init)

// `options`: with the model, the context and the rest; of a machine without room for a width that width is
// left out.  kBudget: there is none for a single sequence.
Result<BatchPlan> plan_batch(EngineOptions options, const server::BatchOptions& batch, const Machine& machine,
                             const HitRates& rates, double prompt_tokens_per_second,
                             const std::vector<server::SimulatedRequest>& requests,
                             const WantedWidth& wanted);

std::string batch_plan_text(const BatchPlan& plan);

}  // namespace odmoe::cli
