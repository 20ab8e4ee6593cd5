// What a model file holds beside what is used of it.
#pragma once

#include <string>

namespace odmoe {

// A key of the metadata or a tensor that nothing was computed from.
struct LeftOver {
  enum class Kind { kKey, kTensor };
  Kind kind = Kind::kKey;
  std::string name;    // printable
  std::string reason;  // why it does not matter, or why it does; then no engine opens the model
  bool refused = false;
  bool operator==(const LeftOver&) const = default;
};

}  // namespace odmoe
