// A thread that is waited for at the end of its scope.  std::jthread would do, but libc++ (macOS) has it only
// as an experiment.
#pragma once

#include <thread>
#include <utility>

namespace odmoe {

// Move-only; one owner.
class JoiningThread {
 public:
  JoiningThread() = default;
  template <typename Work>
  explicit JoiningThread(Work work) : thread_(std::move(work)) {}
  JoiningThread(JoiningThread&&) noexcept = default;
  JoiningThread& operator=(JoiningThread&& other) noexcept {
    if (this != &other) {
      join();
      thread_ = std::move(other.thread_);
    }
    return *this;
  }
  ~JoiningThread() { join(); }

  // Waits until the work is done, if there is any.
  void join() {
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::thread thread_;
};

}  // namespace odmoe
