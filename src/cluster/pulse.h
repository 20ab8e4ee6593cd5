// Notes as they come, and whether the other ranks are still there: each says so every now and then.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "base/joining_thread.h"
#include "base/mutex.h"
#include "cluster/transport.h"
#include "cluster/wire.h"

namespace odmoe {

// Thread-safe, but for stop() and restart().  Has a thread of its own.
class Pulse {
 public:
  struct Options {
    std::chrono::milliseconds interval{1000};   // between two signs of life
    std::chrono::milliseconds silence{15'000};  // after which a rank counts as gone
  };
  // Called in its thread, for each note that is not a mere sign of life.
  using OnNote = std::function<void(int from, const ReadNote& note)>;
  // Called once, in its thread or that of break_with(): a rank has been silent for too long, or the transport
  // failed.
  using OnBroken = std::function<void(const Error& error)>;

  // The head listens to all others, and they to the head.  `transport` must outlive it.
  Pulse(Transport& transport, const Options& options, OnNote on_note, OnBroken on_broken = {});
  ~Pulse();
  Pulse(const Pulse&) = delete;
  Pulse& operator=(const Pulse&) = delete;

  // The error since which nothing works any more.
  Status status() const;
  // Something has gone wrong that it cannot see.
  void break_with(const Error& error);

  // Ends its thread.  One owner calls these two, not in its thread.
  void stop();
  // Begins anew, with the ranks that are there, as if they had been heard of now and nothing had gone wrong.
  void restart();

 private:
  using Time = std::chrono::steady_clock::time_point;
  void run();
  void tell();
  void listen(std::span<std::byte> into);
  void look(Time now);

  Transport& transport_;
  const Options options_;
  OnNote on_note_;
  OnBroken on_broken_;
  std::atomic<bool> stopping_ = false;
  std::vector<int> others_;
  std::vector<Time> heard_;  // by rank
  mutable Mutex mutex_;
  std::optional<Error> error_ ODMOE_GUARDED_BY(mutex_);
  std::atomic<bool> broken_ = false;
  JoiningThread thread_;
};

}  // namespace odmoe
