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

// Forgets which device was found to be the fastest for the model (EngineOptions::device_file).  Errors as
// Engine::memory_plan(); kIo where the file cannot be written.
Status forget_device(const EngineOptions& options);

}  // namespace odmoe
