#include "server/channel.h"

#include <utility>

namespace odmoe::server {

size_t Channel::bytes_of(const ChannelEvent& event) {
  size_t bytes = sizeof(event) + event.text.size();
  for (const GeneratedToken& token : event.tokens) {
    bytes += sizeof(token) + token.top.size() * sizeof(TokenLogprob);
  }
  return bytes;
}

bool Channel::push(ChannelEvent event) {
  {
    const MutexLock lock(mutex_);
    const size_t bytes = bytes_of(event);
    if (!event.end && (bytes_ + bytes > max_bytes_ || !memory_.try_grow(bytes))) return false;
    bytes_ += bytes;
    events_.push_back(std::move(event));
  }
  ready_.notify_one();
  return true;
}

std::optional<ChannelEvent> Channel::pop(std::chrono::milliseconds limit) {
  MutexLock lock(mutex_);
  const auto end = std::chrono::steady_clock::now() + limit;
  while (events_.empty()) {
    if (!ready_.wait_until(mutex_, end)) return std::nullopt;
  }
  ChannelEvent event = std::move(events_.front());
  events_.pop_front();
  bytes_ -= bytes_of(event);
  memory_.shrink(bytes_);
  return event;
}

}  // namespace odmoe::server
