#include "server/live_events.h"

#include <utility>

#include "base/clock.h"
#include "server/limits.h"
#include "server/listener.h"

namespace odmoe::server {
namespace {

int64_t now_us() { return SteadyClock::instance().now_us(); }

}  // namespace

struct LiveEvents::Subscriber {
  std::function<bool()> closed;
  LiveStream stream;
  bool begun = false, told_loading = false, told_model = false;
  int64_t last_sent_us = 0;
};

LiveEvents::LiveEvents(size_t max_subscribers, Subject subject, Model model)
    : max_subscribers_(max_subscribers), subject_(std::move(subject)), model_(std::move(model)) {}

bool LiveEvents::ended() const {
  const MutexLock lock(mutex_);
  return ended_;
}

void LiveEvents::end(std::chrono::milliseconds limit) {
  MutexLock lock(mutex_);
  ended_ = true;
  ending_.notify_all();
  const auto end = std::chrono::steady_clock::now() + limit;
  while (n_subscriber_ > 0 && gone_.wait_until(mutex_, end)) {
  }
}

ApiStatus LiveEvents::answer(const httplib::Request& request, httplib::Response& response) {
  {
    const MutexLock lock(mutex_);
    if (ended_) {
      return std::unexpected(ApiError{.status = 503,
                                      .fault = Fault::kServer,
                                      .message = "the server is shutting down",
                                      .code = "shutting_down",
                                      .retry_after_s = 10});
    }
    if (n_subscriber_ >= max_subscribers_) {
      return std::unexpected(
          ApiError{.status = 429,
                   .fault = Fault::kRate,
                   .message = odmoe::format("{} listen already: close another live page or odmoe top first",
                                            max_subscribers_),
                   .code = "too_many_listeners",
                   .retry_after_s = 10});
    }
    ++n_subscriber_;
  }
  const auto subscriber = std::make_shared<Subscriber>();
  subscriber->closed = request.is_connection_closed;
  response.set_header("Cache-Control", "no-store");
  response.set_header("X-Accel-Buffering", "no");
  server::Listener::stream(
      request, response, "text/event-stream",
      [this, subscriber](size_t, httplib::DataSink& sink) { return send(*subscriber, sink); },
      [this](bool) {
        const MutexLock lock(mutex_);
        --n_subscriber_;
        gone_.notify_all();
      });
  return {};
}

// The next event, or nothing; false when the client is gone.
bool LiveEvents::send(Subscriber& subscriber, httplib::DataSink& sink) {
  if (std::exchange(subscriber.begun, true)) {
    MutexLock lock(mutex_);
    const auto next = std::chrono::steady_clock::now() + LiveFeed::kInterval;
    while (!ended_ && ending_.wait_until(mutex_, next)) {
    }
  }
  const auto write = [&](const std::string& text) {
    subscriber.last_sent_us = now_us();
    return sink.write(text.data(), text.size());
  };
  if (ended()) {
    if (!write(event_text("end", {{"reason", "the server is shutting down"}}))) return false;
    sink.done();
    return true;
  }
  if (subscriber.closed()) return false;
  const auto subject = subject_();
  if (!subject) {
    if (!std::exchange(subscriber.told_loading, true)) return write(event_text("loading", Json::object()));
    const int64_t patience_us = std::chrono::microseconds(kStreamKeepAlive).count();
    return now_us() - subscriber.last_sent_us < patience_us || write(": still here\n\n");
  }
  std::string text;
  if (!std::exchange(subscriber.told_model, true)) text = event_text("model", model_());
  text += event_text("state", subscriber.stream.next(*feed_.look(*subject, now_us())));
  return write(text);
}

}  // namespace odmoe::server
