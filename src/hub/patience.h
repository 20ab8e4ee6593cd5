// How often something is tried again, and how long is waited before.
#pragma once

#include <chrono>
#include <optional>

namespace odmoe::hub {

struct PatienceLimits {
  int tries = 7;                                                    // in a row that bring nothing
  std::chrono::milliseconds first_pause = std::chrono::seconds(1);  // doubled each time
  std::chrono::milliseconds longest_pause = std::chrono::seconds(30);
  // Where a server says when to come back: so often, and for so long at once.
  int waits = 10;
  std::chrono::milliseconds longest_wait = std::chrono::minutes(5);
};

// One owner.
class Patience {
 public:
  explicit Patience(const PatienceLimits& limits) : limits_(limits) {}

  // Something came: what failed before does not count any more.
  void succeed() { tries_ = waits_ = 0; }
  // How long to wait after something failed; none at all after something came.  Nothing: give up.
  // `asked` is what the server said, if it did.
  std::optional<std::chrono::milliseconds> fail(std::optional<std::chrono::seconds> asked = {});
  // The same where the server is sound and has too many requests.
  std::optional<std::chrono::milliseconds> be_told_to_wait(std::optional<std::chrono::seconds> asked);

  int tries() const { return tries_; }  // that have failed in a row

 private:
  std::chrono::milliseconds pause() const;

  PatienceLimits limits_;
  int tries_ = 0, waits_ = 0;
};

}  // namespace odmoe::hub
