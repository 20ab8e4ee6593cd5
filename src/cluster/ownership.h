// Which rank computes an expert: a pure function of what is known of the model and of the ranks, so that each
// rank finds the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/fingerprint.h"

namespace odmoe {

// What an expert's owner is chosen by.
struct OwnershipFacts {
  struct Rank {
    uint64_t memory_bytes = 0;            // for experts
    uint64_t drive_bytes_per_second = 0;  // 0: not known
  };
  std::vector<int> expert_layers;  // those that have experts, n_expert each
  int32_t n_expert = 0;
  uint64_t expert_bytes = 0;  // of all of them
  std::vector<Rank> ranks;
  // How often each expert was used, [n_expert, layers]; empty: not known.
  std::vector<uint64_t> uses;
};

// Immutable, so thread-safe.
class Ownership {
 public:
  // A rank's share of the experts is what it can hold; where all together cannot hold them, of the others
  // each gets what its drive is of all drives (of drives that are not all known, the same).  Each layer is
  // divided in these shares, as nearly as whole experts can be, since a layer takes as long as its slowest
  // rank; what is lost to rounding in one layer is made good in the next.  Within a layer ranks take turns,
  // or where uses are known, each gets its share of them too.
  static Ownership of(const OwnershipFacts& facts);

  // By index among the layers with experts.
  int owner(size_t index, int32_t expert) const {
    return owner_[index * static_cast<size_t>(n_expert_) + static_cast<size_t>(expert)];
  }
  // Of all layers.
  int32_t n_owned(int rank) const;
  // The same only where all owners are.
  Fingerprint::Value fingerprint() const;

 private:
  int32_t n_expert_ = 0;
  std::vector<uint8_t> owner_;  // [n_expert, layers]
};

}  // namespace odmoe
