// Several machines that run one model: what `mpirun odmoe ...` starts, a process on each.
//
// MPI is in a module of its own, odmoe-mpi, beside the program in a build and under libexec when installed;
// it is opened when mpirun has started more than one of us, and else nothing of it is loaded.
#pragma once

#include <string>

#include "cli/command.h"
#include "cli/inference_options.h"
#include "odmoe/engine.h"

namespace odmoe::cli::ranks {

// What a command does that opens one model: on the head, and without mpirun, `action`; on the others the work
// that the head gives them.  `options` must outlive the result.
Action on_each(const InferenceOptions& options, Action action);

// Engine::open(), of a command that is on_each().
Result<std::unique_ptr<Engine>> open(const EngineOptions& options, const LoadProgress& progress);

// Who owns how much, a line for each rank; empty where there is one.
std::string description();

// Whether there is more than one, once the command is under way.
bool several();

// At the end of the program, once all has been said: leaves the other ranks, or ends them where that cannot
// be waited for.  Returns the exit code.
int leave(int exit_code);

}  // namespace odmoe::cli::ranks
