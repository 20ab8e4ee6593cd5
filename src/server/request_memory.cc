#include "server/request_memory.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/units.h"
#include "server/limits.h"

namespace odmoe::server {

bool RequestMemory::fits(uint64_t has, uint64_t more) const {
  const uint64_t usable = has + more <= kSmallRequestBytes ? total_ : most();
  return more <= usable && taken_ <= usable - more;
}

uint64_t RequestMemory::taken() const {
  const MutexLock lock(mutex_);
  return taken_;
}

RequestMemory::Share& RequestMemory::Share::operator=(Share&& other) noexcept {
  if (this != &other) {
    shrink(0);
    memory_ = std::move(other.memory_);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

bool RequestMemory::Share::grow_within(uint64_t bytes, std::chrono::milliseconds wait) {
  if (memory_ == nullptr) return true;
  MutexLock lock(memory_->mutex_);
  const auto end = std::chrono::steady_clock::now() + wait;
  while (!memory_->fits(bytes_, bytes)) {
    if (!memory_->freed_.wait_until(memory_->mutex_, end)) return false;
  }
  memory_->taken_ += bytes;
  bytes_ += bytes;
  return true;
}

void RequestMemory::Share::shrink(uint64_t bytes) {
  if (memory_ == nullptr || bytes >= bytes_) return;
  {
    const MutexLock lock(memory_->mutex_);
    memory_->taken_ -= bytes_ - bytes;
    bytes_ = bytes;
  }
  memory_->freed_.notify_all();
}

ApiStatus RequestWork::goes_on() const {
  if (stops_ != nullptr && *stops_) {
    return std::unexpected(ApiError{.status = 503,
                                    .fault = Fault::kServer,
                                    .message = "the server is shutting down",
                                    .code = "shutting_down",
                                    .retry_after_s = 1});
  }
  if (deadline_ && Clock::now() >= *deadline_) {
    return std::unexpected(ApiError{.status = 504,
                                    .fault = Fault::kServer,
                                    .message = "the request took longer than this server allows (--timeout)",
                                    .code = "timeout"});
  }
  if (client_gone_ && client_gone_()) {
    return std::unexpected(
        ApiError{.status = 499, .fault = Fault::kServer, .message = "the client went away"});
  }
  return {};
}

bool RequestWork::hurries_on() {
  // To look at the client's socket takes a call to the system.
  constexpr uint32_t kLookEvery = 64;
  if (++asked_ % kLookEvery == 0) return goes_on().has_value();
  return (stops_ == nullptr || !*stops_) && (!deadline_ || Clock::now() < *deadline_);
}

uint64_t RequestWork::most() const {
  return share_.account() == nullptr ? std::numeric_limits<uint64_t>::max() : share_.account()->most();
}

ApiStatus RequestWork::take(uint64_t bytes) {
  most_taken_ = std::max(most_taken_, share_.bytes() + bytes);
  if (share_.try_grow(bytes)) return {};
  const uint64_t most = share_.account()->most();
  if (share_.bytes() + bytes > most) {
    return std::unexpected(
        ApiError{.status = 413,
                 .fault = Fault::kRequest,
                 .message = odmoe::format("the request takes more than the {} of memory that "
                                          "one may take: send less, or start the server with "
                                          "a larger --max-body",
                                          format_bytes(most)),
                 .code = "request_too_large"});
  }
  const auto end = Clock::now() + kMemoryWait;
  while (Clock::now() < end) {
    ODMOE_RETURN_IF_ERROR(goes_on());
    if (share_.grow_within(bytes, kLiveness)) return {};
  }
  return std::unexpected(ApiError{.status = 503,
                                  .fault = Fault::kServer,
                                  .message = "other requests have all the memory that is set aside for them: "
                                             "try again later, or start the server with a larger --max-body",
                                  .code = "request_memory",
                                  .retry_after_s = 2});
}

}  // namespace odmoe::server
