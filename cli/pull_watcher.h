// A download as people at a terminal see it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cli/progress.h"
#include "cli/time_left.h"
#include "hub/watcher.h"

namespace odmoe::cli {

// What is downloaded and how large it is, in a line: "hf:o/r: m-Q4_K_M, 18.6 GiB in 2 files, ..."
std::string plan_line(const hub::PullPlan& plan);

// Says what it is, asks where somebody is there to answer, shows a bar and why it waits.  All on standard
// error.  Ctrl-C stops it.  One owner.
class PullTerminal final : public hub::PullWatcher {
 public:
  // `asks`: whether there is a question at all.
  explicit PullTerminal(bool asks) : asks_(asks) {}

  bool goes_on() override;
  bool confirm(const hub::PullPlan& plan) override;
  void progress(uint64_t done, uint64_t total, bool checking) override;
  bool wait(std::chrono::milliseconds time, std::string_view why) override;
  bool declined() const { return declined_; }
  // Wipes the bar.
  void finish() { bar_.reset(); }

 private:
  struct Bar {
    Bar(const std::string& label, uint64_t done) : progress(label), time(done) {}
    Progress progress;
    TimeLeft time;
  };

  bool asks_;
  bool declined_ = false;
  bool checking_ = false;
  std::string said_;  // the last reason
  std::optional<Bar> bar_;
};

}  // namespace odmoe::cli
