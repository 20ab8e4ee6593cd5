// Waits that end: a test that waits for another thread, a program or a server says what did not come instead
// of hanging.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace odmoe::testing {

// Far more than anything that is waited for takes, on a busy machine and with sanitizers too; less than ctest
// gives a test.
inline constexpr std::chrono::seconds kDeadline{120};

// Asks `done` until it says true; after kDeadline it is a failure that names `what`, and false.
template <typename Done>
[[nodiscard]] bool until(std::string_view what, Done done) {
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (!done()) {
    if (std::chrono::steady_clock::now() > end) {
      ADD_FAILURE() << "not within " << kDeadline.count() << " s: " << what;
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// A read from this socket that brings nothing for kDeadline fails with EAGAIN, as does a send that takes
// nothing.
inline void set_deadline(int socket) {
  const timeval limit{.tv_sec = kDeadline.count(), .tv_usec = 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

// For what cannot be told to stop waiting (a join, a latch, an end that hangs): while it lives, at most
// kDeadline; then it says what hung and ends the program.
class Deadline {
 public:
  explicit Deadline(std::string what) : what_(std::move(what)), thread_([this] { watch(); }) {}
  ~Deadline() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    thread_.join();
  }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  void watch() {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kDeadline, [this] { return over_; })) return;
    std::fprintf(stderr, "not within %d s: %s\n", static_cast<int>(kDeadline.count()), what_.c_str());
    std::abort();
  }

  std::string what_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace odmoe::testing
