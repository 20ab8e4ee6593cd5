// That an expert directory has the experts of one of several machines alone (docs/scale.md).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace odmoe {

struct ExpertShare {
  static constexpr size_t kMaxParts = 255;

  int32_t rank = 0;             // whose, from 0
  std::vector<uint64_t> sizes;  // of the shares of all ranks, in proportion: which experts are whose
  std::string uses;   // fingerprint of recorded uses that this depends on as well; empty: it does not
  std::string model;  // fingerprint of the model that it was made from

  // "share 2 of 3", as `--share 2/3` made it.
  std::string name() const {
    return "share " + std::to_string(rank + 1) + " of " + std::to_string(sizes.size());
  }
  bool operator==(const ExpertShare&) const = default;
};

// A share that is to be made, and which experts it keeps.
struct ExpertsOfShare {
  ExpertShare share;
  std::function<bool(int layer, int32_t expert)> holds;
};

}  // namespace odmoe
