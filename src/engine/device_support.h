// What a device has for a model, found out without reading weights.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.h"
#include "odmoe/options.h"
#include "odmoe/result.h"

namespace odmoe {

// Operations of the model's dense part, and of the stale gate where it predicts, that the device cannot
// compute, each with its type: "MUL_MAT on q4_K". Empty: it can compute all.  Nothing is allocated on the
// device.  Errors as Engine::memory_plan().
Result<std::vector<std::string>> lacking_on(const Backend& device, const EngineOptions& options);

// Where routed experts can be computed beside a device that computes the dense part.
struct PlacementVerdict {
  ExpertPlacement placement = ExpertPlacement::kHost;
  std::string obstacle;  // one line: what stands in the way, of which type or span; empty: it would work
};

// Of each placement that there is with the device, whatever memory is left for it: of the processor the first
// alone.  Made-up experts of the model's types and shapes are computed on the device (model/blocks/
// device_trial.h), in a few slots of its memory and the host's.  No weights are read.  Errors as
// Engine::memory_plan().
Result<std::vector<PlacementVerdict>> placements_on(Backend& device, const EngineOptions& options);

// Forgets which device was found to be the fastest for the model (EngineOptions::device_file).  Errors as
// Engine::memory_plan(); kIo where the file cannot be written.
Status forget_device(const EngineOptions& options);

}  // namespace odmoe
