// The responses that clients may ask for again and go on from, within bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "server/limits.h"

namespace odmoe::server {

// One item of a conversation, as JSON text.
struct ResponseItemText {
  std::string id;
  std::string text;
};

struct StoredResponse {
  std::string id;
  std::string owner;     // whose it is: it is there for nobody else
  std::string previous;  // the response that it goes on from; empty: none
  std::vector<ResponseItemText> input, output;
  std::string head, tail;  // its JSON, around the output's items
};
using SharedResponse = std::shared_ptr<const StoredResponse>;

// Thread-safe; owned by a shared_ptr.  Holds so many bytes and responses at most: those used longest ago go
// first.  What a response goes on from stays with it, also where it went or was removed, and counts.
class ResponseStore : public std::enable_shared_from_this<ResponseStore> {
 public:
  explicit ResponseStore(uint64_t max_bytes, size_t max_responses = kMaxStoredResponses)
      : max_bytes_(max_bytes), max_responses_(max_responses) {}

  // Whether it keeps any.
  bool enabled() const { return max_bytes_ > 0; }

  // Keeps it as the latest.  False: it is not there afterwards, for it is too large, or `previous` is not
  // there any more.
  bool put(StoredResponse response);
  // Null: there is none.
  SharedResponse find(const std::string& id, const std::string& owner);
  bool remove(const std::string& id, const std::string& owner);

  // The response with all that it goes on from, the first one first.
  struct History {
    std::vector<SharedResponse> responses;  // empty: there is none
    std::shared_ptr<const void> hold;       // as long as it is held the last of them can be gone on from
  };
  History history(const std::string& id, const std::string& owner);

  uint64_t bytes() const;
  size_t size() const;  // those that are there

  // What a response takes beside its text.
  static constexpr uint64_t kResponseBytes = 1024, kItemBytes = 96;

 private:
  struct Entry {
    SharedResponse response;
    Entry* previous = nullptr;
    size_t n_next = 0;  // entries that go on from it, and holds
    uint64_t bytes = 0;
    bool there = true;
    std::list<Entry*>::iterator place;  // in order_, while it is there
  };
  Entry* entry_of(const std::string& id, const std::string& owner) ODMOE_REQUIRES(mutex_);
  void touch(Entry& entry) ODMOE_REQUIRES(mutex_);
  void take_away(Entry& entry) ODMOE_REQUIRES(mutex_);
  void forget_unused(Entry* entry) ODMOE_REQUIRES(mutex_);
  void release(const std::string& id);

  const uint64_t max_bytes_;
  const size_t max_responses_;
  mutable Mutex mutex_;
  // Of every response that is there or that another one goes on from; pointers into it stay valid.
  std::unordered_map<std::string, Entry> entries_ ODMOE_GUARDED_BY(mutex_);
  std::list<Entry*> order_ ODMOE_GUARDED_BY(mutex_);  // those that are there, used longest ago first
  uint64_t bytes_ ODMOE_GUARDED_BY(mutex_) = 0;
};

}  // namespace odmoe::server
