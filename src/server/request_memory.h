// The memory that requests take: an account that the memory plan holds, shared by all that are under way.
//
// What a client can make large is taken from it before it is allocated: a body as it comes, the values of its
// JSON, the work of making it into tokens, the tokens and grammars of a request that waits, what was
// generated and its client has not read.  Who finds nothing left waits a little, and is then told to come
// back.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "server/api_error.h"

namespace odmoe::server {

// Thread-safe.
class RequestMemory {
 public:
  explicit RequestMemory(uint64_t bytes) : total_(bytes) {}

  // One request's share; given back when it goes.  Movable; one owner.
  class Share {
   public:
    Share() = default;
    explicit Share(std::shared_ptr<RequestMemory> memory) : memory_(std::move(memory)) {}
    Share(Share&& other) noexcept { *this = std::move(other); }
    Share& operator=(Share&& other) noexcept;
    ~Share() { shrink(0); }

    // So much more, at once; false when there is not so much.  A share without an account has no bounds.
    bool try_grow(uint64_t bytes) { return grow_within(bytes, {}); }
    // The same once there is so much, at the latest after `wait`.
    bool grow_within(uint64_t bytes, std::chrono::milliseconds wait);
    // Gives back all but so much.
    void shrink(uint64_t bytes);
    uint64_t bytes() const { return bytes_; }

    // Null: without an account.
    const RequestMemory* account() const { return memory_.get(); }

   private:
    std::shared_ptr<RequestMemory> memory_;
    uint64_t bytes_ = 0;
  };

  uint64_t total() const { return total_; }
  // The most that one request may have: some is set aside for requests that take little.
  uint64_t most() const { return total_ - total_ / kForSmall; }
  uint64_t taken() const;

 private:
  // Of the account only requests up to kSmallRequestBytes may take this share, so that a few large ones do
  // not keep all others out.
  static constexpr uint64_t kForSmall = 8;
  bool fits(uint64_t has, uint64_t more) const ODMOE_REQUIRES(mutex_);

  const uint64_t total_;
  mutable Mutex mutex_;
  Condition freed_;
  uint64_t taken_ ODMOE_GUARDED_BY(mutex_) = 0;
};

// What is done for a request before it generates: bounded in memory and in time.  One owner.
class RequestWork {
 public:
  using Clock = std::chrono::steady_clock;
  // Nothing: without bounds.
  RequestWork() = default;
  // Ends at the deadline, when the server `stops`, and when the client is gone.
  RequestWork(std::shared_ptr<RequestMemory> memory, std::optional<Clock::time_point> deadline,
              const std::atomic<bool>* stops, std::function<bool()> client_gone)
      : share_(std::move(memory)), deadline_(deadline), stops_(stops), client_gone_(std::move(client_gone)) {}

  // 504, 503 or 499 when there is no use in going on.
  ApiStatus goes_on() const;
  // The same for those who ask often: looks for the client now and then.
  bool hurries_on();
  // So much more memory, waiting up to kMemoryWait for it.  413 when no request may have so much, 503 when
  // others have it, and as goes_on().
  ApiStatus take(uint64_t bytes);
  void give_back_to(uint64_t bytes) { share_.shrink(bytes); }
  uint64_t bytes() const { return share_.bytes(); }
  uint64_t most_taken() const { return most_taken_; }  // at any time
  uint64_t most() const;                               // that one request may have
  std::optional<Clock::time_point> deadline() const { return deadline_; }
  // Whose request it is (key_owner_of() in access.h): what was kept of others is not there for it.
  void belongs_to(std::string owner) { owner_ = std::move(owner); }
  const std::string& owner() const { return owner_; }
  // What it has taken, for as long as its generations live.
  RequestMemory::Share keep() { return std::move(share_); }

 private:
  RequestMemory::Share share_;
  std::optional<Clock::time_point> deadline_;
  const std::atomic<bool>* stops_ = nullptr;
  std::function<bool()> client_gone_;
  std::string owner_;
  uint64_t most_taken_ = 0;
  uint32_t asked_ = 0;
};

}  // namespace odmoe::server
