// The figures of the live page: what the engine does right now, looked at a few times a second while somebody
// listens, and never when nobody does.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "odmoe/engine.h"
#include "server/json_guard.h"
#include "server/live_rates.h"
#include "server/scheduler.h"

namespace odmoe::server {

// What is looked at.  Given anew for each look, since a server ends.
struct LiveSubject {
  const Engine* engine = nullptr;
  Scheduler::Load load;
  int32_t sessions = 0;  // that can run at once
  size_t max_queue = 0;
};

// One look.  Immutable.
struct LiveFrame {
  Json figures;                     // all of a state event but the map
  std::vector<ExpertView> experts;  // of all layers with experts, in order
};

// Thread-safe.  Whoever comes first takes a look; those who come within the interval share it.
class LiveFeed {
 public:
  static constexpr std::chrono::milliseconds kInterval{250};
  // After so long without a look, rates begin anew.
  static constexpr std::chrono::seconds kStale{2};

  // `now_us` never goes back.
  std::shared_ptr<const LiveFrame> look(const LiveSubject& subject, int64_t now_us);

 private:
  Mutex mutex_;
  RateWindow window_ ODMOE_GUARDED_BY(mutex_);
  std::shared_ptr<const LiveFrame> last_ ODMOE_GUARDED_BY(mutex_);
  int64_t last_us_ ODMOE_GUARDED_BY(mutex_) = 0;
};

// What does not change while a model is served: the data of a model event.
Json live_model(const Engine& engine, const std::string& id, bool chat, int32_t context);

// One subscriber's stream: turns frames into state events, the first with the whole map, the others with what
// changed since.  One owner.
class LiveStream {
 public:
  // The data of a state event.
  Json next(const LiveFrame& frame);

 private:
  std::string letters_;         // as the subscriber has them
  std::vector<uint32_t> uses_;  // when they were made
};

// An event of a stream (text/event-stream).
std::string event_text(std::string_view name, const Json& data);

}  // namespace odmoe::server
