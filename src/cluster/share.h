// One rank's experts by themselves: what `odmoe convert --share` keeps, and whether a rank that has no more
// is asked for no others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "cluster/greeting.h"
#include "cluster/ownership.h"
#include "format/checkpoint.h"
#include "format/expert_share.h"
#include "odmoe/result.h"

namespace odmoe {

struct ShareRequest {
  int32_t rank = 0;
  std::vector<uint64_t> sizes;    // in proportion, of all ranks
  std::filesystem::path balance;  // a trace whose uses are divided as well; empty: none
};
// Of a model that has all experts.  Errors: those of opening it and of the trace; kIo: samples of the experts
// cannot be read.
Result<ExpertsOfShare> make_share(const Checkpoint& file, const ShareRequest& request);

// "2/3": the second of three; kUsage for what is not one.
Result<ShareRequest> parse_share(const std::string& text);

// Puts into `facts` what shares say of who owns what: as the first rank has it that has one; nothing where
// none has.
void apply_shares(std::span<const Hello> hellos, OwnershipFacts& facts);

// Whether the ranks that have shares have those of one division, each its own.  `names` as in check_hellos().
// kUnsupported.
Status check_shares(std::span<const Hello> hellos, std::span<const std::string> names);

// Whether a rank has all experts that it owns; kUnsupported names one that it has not.
Status check_held(const Ownership& ownership, int rank, std::span<const int> expert_layers, int32_t n_expert,
                  const Checkpoint& file, const ExpertSource& source);

}  // namespace odmoe
