// GET /v1/events: the live figures as a stream of server-sent events.
#pragma once

#include <httplib.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "server/api_error.h"
#include "server/live_feed.h"

namespace odmoe::server {

// Thread-safe.  A subscriber takes the thread of its connection, and nothing else: what it is sent is made
// when it is sent, so one that is slow misses some and one that takes nothing is dropped as anywhere else.
class LiveEvents {
 public:
  // What there is to look at; nothing while the model is loading.  Asked by the threads of subscribers.
  using Subject = std::function<std::optional<LiveSubject>()>;
  // The data of the model event, once there is something to look at.
  using Model = std::function<Json()>;

  LiveEvents(size_t max_subscribers, Subject subject, Model model);

  // Answers with the stream, until the client goes or end().  429 when there are enough subscribers, 503
  // after end().
  ApiStatus answer(const httplib::Request& request, httplib::Response& response);

  // Streams say that they end, and do; waits for that so long at most.
  void end(std::chrono::milliseconds limit);

 private:
  struct Subscriber;
  bool send(Subscriber& subscriber, httplib::DataSink& sink);
  bool ended() const;

  const size_t max_subscribers_;
  const Subject subject_;
  const Model model_;
  LiveFeed feed_;
  mutable Mutex mutex_;
  Condition ending_, gone_;
  size_t n_subscriber_ ODMOE_GUARDED_BY(mutex_) = 0;
  bool ended_ ODMOE_GUARDED_BY(mutex_) = false;
};

}  // namespace odmoe::server
