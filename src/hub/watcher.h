// Who watches over a download: is asked, is told, and may stop it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace odmoe::hub {

struct PullPlan {
  std::string name;          // as it was asked for
  std::string stem;          // of its files
  std::string quantisation;  // may be empty
  std::string architecture;  // may be empty
  int n_file = 0;
  uint64_t bytes = 0;       // in all
  uint64_t bytes_left = 0;  // to download
  std::string folder;       // where it goes
};

// Called in the thread that pulls.
class PullWatcher {
 public:
  virtual ~PullWatcher() = default;
  // False: stop in order.  Asked at least ten times a second.
  virtual bool goes_on() = 0;
  // Before the first byte of what has to be downloaded; false: it is not wanted.
  virtual bool confirm(const PullPlan& plan) = 0;
  // Bytes of the whole model that are on the disk; `checking`: those that were there are being read.
  virtual void progress(uint64_t done, uint64_t total, bool checking) = 0;
  // Lets so much time pass, or less, while people can read why; false: stop in order.
  virtual bool wait(std::chrono::milliseconds time, std::string_view why) = 0;
};

}  // namespace odmoe::hub
