// What a rank says of itself, from what it has opened.
#pragma once

#include <span>

#include "backend/backend.h"
#include "cluster/greeting.h"
#include "engine/drives.h"
#include "engine/local_site.h"
#include "format/checkpoint.h"
#include "format/expert_source.h"
#include "model/decoder.h"

namespace odmoe {

struct Introduced {
  const Checkpoint& file;
  const ExpertSource& source;
  const Backend& backend;  // that computes experts
  LocalSite& site;
  std::span<const ModelCopy> copies;
  MemoryBudget memory;
  uint64_t arena_bytes = 0;
  std::span<const uint64_t> uses;  // OwnershipFacts::uses
};
// kIo: a file cannot be read, or no memory for trials of kernels.
Result<Hello> make_hello(const Introduced& rank);

// `hellos` of all ranks, in order.
OwnershipFacts facts_of(const Decoder& decoder, const ExpertSource& source, std::span<const Hello> hellos);

}  // namespace odmoe
