// What a request's generations say, on its way from the scheduler to the thread that answers the client.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "server/request_memory.h"
#include "server/scheduler.h"

namespace odmoe::server {

struct ChannelEvent {
  size_t choice = 0;
  std::string text;                    // complete UTF-8
  std::vector<GeneratedToken> tokens;  // with logprobs, if those were asked for
  bool prompt = false;                 // tokens of the prompt (echo)
  int32_t n_token = 0;                 // that were generated since the last event
  std::optional<GenerationEnd> end;    // the last event of its choice
  std::string stop_string;             // with end: the one that ended it; empty: none did
  bool too_slow = false;               // with end: nobody took what was made
};

// Thread-safe.  Bounded: what does not fit ends its generation.
class Channel {
 public:
  // What waits is taken from `memory` as well.
  explicit Channel(size_t max_bytes, RequestMemory::Share memory = {})
      : max_bytes_(max_bytes), memory_(std::move(memory)) {}

  // False when too much waits already; an event with an end is always taken.
  bool push(ChannelEvent event);
  // The next one; nothing when none came within the limit.
  std::optional<ChannelEvent> pop(std::chrono::milliseconds limit);

 private:
  static size_t bytes_of(const ChannelEvent& event);
  const size_t max_bytes_;
  RequestMemory::Share memory_;
  Mutex mutex_;
  Condition ready_;
  std::deque<ChannelEvent> events_ ODMOE_GUARDED_BY(mutex_);
  size_t bytes_ ODMOE_GUARDED_BY(mutex_) = 0;
};

}  // namespace odmoe::server
