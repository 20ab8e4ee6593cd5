// A rank that computes experts for the head, with an arena and a drive of its own.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "cluster/greeting.h"
#include "cluster/pulse.h"
#include "cluster/transport.h"
#include "engine/drives.h"
#include "engine/memory_governor.h"
#include "odmoe/options.h"
#include "odmoe/result.h"

namespace odmoe {

struct WorkerOptions {
  EngineOptions engine;  // as the head's, but that the head says chunk, sessions and prompts
  Pulse::Options pulse;
  std::filesystem::path balance;  // a trace whose uses decide who owns what as well; empty: none
  // What a model's name means here; null: it is a path.
  std::function<Result<std::filesystem::path>(const std::string& name)> find_model;
  std::function<bool()> leave;  // whether this rank was asked to end, which the head is then told
  // What the worker asks of the world.  Tests put fakes here.
  MakeReader make_reader = odmoe::make_reader;
  std::function<MemorySample()> sample_memory = odmoe::sample_memory;
  std::function<void(Hello&)> pretend;  // to be another than it is
};

// Runs until the head ends it.  Errors: of opening the model, or of finding the same owners as the head,
// which has been told them; kIo: the head has gone.  That an expert cannot be read is the head's error alone.
struct WorkerOutcome {
  Status status;
  bool in_order = false;  // the head has said that all end
};
WorkerOutcome run_worker(Transport& transport, const WorkerOptions& options);

}  // namespace odmoe
