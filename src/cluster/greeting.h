// How ranks find out, before the first token, that they have the same model, compute alike and know who owns
// which expert.
//
//   head               worker
//   kBegin    ->                 what is going to be run
//             <-       kHello    what it has, or why it cannot
//   kSetup    ->                 what all have, when all suit each other
//             <-       kReady    that it found the same owners, or why it cannot
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fingerprint.h"
#include "cluster/ownership.h"
#include "format/expert_share.h"
#include "odmoe/options.h"
#include "odmoe/result.h"

namespace odmoe {

// What of the head's options decides how experts are computed, and how large buffers are.
struct Begin {
  int32_t chunk = 0, sessions = 0, prompts = 0;

  std::string json() const;
  static Result<Begin> read(std::string_view json);
};

// What bits depend on.
struct Kernels {
  std::string ggml;      // "0.9.11 (a1b2c3d)"
  std::string device;    // for people: "CPU: AMD EPYC ..., 2 threads"
  std::string features;  // what the kernels were built for and use
  std::string products;  // LocalSite::kernel_fingerprint()
};

struct Hello {
  std::string error;    // why it cannot take part; the rest is then empty
  std::string version;  // of this program
  std::string path;     // of the model, there
  std::string model;    // identity_of_copies()
  Kernels kernels;
  uint64_t memory_bytes = 0;             // for experts
  uint64_t drive_bytes_per_second = 0;   // of all copies together; 0: not known
  bool takes_what_is_available = false;  // --memory auto
  std::string uses;                      // fingerprint_of_uses() by which owners are chosen
  std::optional<ExpertShare> share;      // where it has some experts alone; its model is `model`

  std::string json() const;
  static Result<Hello> read(std::string_view json);
};

struct RankList {
  std::vector<int> numbers;  // of those that are there, ascending
  std::vector<OwnershipFacts::Rank> ranks;
  uint64_t expert_bytes = 0;  // OwnershipFacts
  std::string owners;         // Ownership::fingerprint(), as the head finds it

  std::string json() const;
  static Result<RankList> read(std::string_view json);
};

// Whether ranks suit each other; `names` are those of the ranks, the head's hello is the first.  Errors name
// the ranks and the difference: kUnsupported, or what the rank's own was.  `mixed_allowed`: they may round
// otherwise.
Status check_hellos(std::span<const Hello> hellos, std::span<const std::string> names, bool mixed_allowed);

// Whether the ranks that share a host all say what memory they take.  `hosts`: by rank.  kUsage.
Status check_memory(std::span<const Hello> hellos, std::span<const std::string> hosts);

}  // namespace odmoe
