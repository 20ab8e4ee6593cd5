#include "cli/pull_watcher.h"

#include <poll.h>

#include <algorithm>
#include <chrono>

#include "base/units.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "model/arch/architecture.h"
#include "odmoe/format.h"

namespace odmoe::cli {
namespace {

using std::chrono::milliseconds;

bool is_known_family(std::string_view name) {
  return std::ranges::contains(known_families(), name, &FamilyInfo::name);
}

}  // namespace

std::string plan_line(const hub::PullPlan& plan) {
  std::string text = odmoe::format("{}: {}", plan.name, plan.stem);
  if (!plan.quantisation.empty()) text += ", " + plan.quantisation;
  if (!plan.architecture.empty()) text += ", " + plan.architecture;
  text += ", " + format_bytes(plan.bytes);
  if (plan.n_file > 1) text += odmoe::format(" in {} files", plan.n_file);
  if (plan.bytes_left < plan.bytes)
    text += odmoe::format(" of which {} are left to download", format_bytes(plan.bytes_left));
  text += ", to " + plan.folder;
  if (!plan.architecture.empty() && !is_known_family(plan.architecture)) {
    text += odmoe::format("; odmoe does not run the family {} (`odmoe models` lists those that it does)",
                          plan.architecture);
  }
  return text;
}

bool PullTerminal::goes_on() { return !interrupt::pending(); }

bool PullTerminal::confirm(const hub::PullPlan& plan) {
  said_.clear();
  say(plan_line(plan));
  Output terminal = Output::standard_error();
  if (!asks_ || !input_is_terminal() || !terminal.is_terminal()) return true;
  (void)terminal.write("Download it? [Y/n] ");
  LineReader reader;
  const auto answer = reader.next();
  const std::string word = answer.has_value() && answer->has_value() ? **answer : "no";
  declined_ = !word.empty() && word != "y" && word != "Y" && word != "yes";
  return !declined_;
}

void PullTerminal::progress(uint64_t done, uint64_t total, bool checking) {
  if (!bar_ || checking != checking_) {
    bar_.reset();  // wipes its line before another begins
    bar_.emplace(checking ? "Checking what is there" : "Downloading", done);
    checking_ = checking;
  }
  bar_->progress.update(total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total),
                        bar_->time.text(done, total, /*rate=*/!checking));
}

bool PullTerminal::wait(milliseconds time, std::string_view why) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(time);
  const std::string reason = time >= milliseconds(1000)
                                 ? odmoe::format("{}; trying again in {} s", why, seconds.count())
                                 : std::string(why);
  if (reason != said_) {
    bar_.reset();
    say(reason);
    said_ = reason;
  }
  const int64_t end_us = SteadyClock::instance().now_us() + std::chrono::microseconds(time).count();
  while (!interrupt::pending()) {
    const int64_t left_us = end_us - SteadyClock::instance().now_us();
    if (left_us <= 0) return true;
    pollfd bell{.fd = interrupt::descriptor(), .events = POLLIN, .revents = 0};
    (void)poll(&bell, bell.fd >= 0 ? 1 : 0, static_cast<int>(std::min<int64_t>(left_us / 1000 + 1, 100)));
  }
  return false;
}

}  // namespace odmoe::cli
