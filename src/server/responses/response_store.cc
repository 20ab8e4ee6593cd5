#include "server/responses/response_store.h"

#include <algorithm>
#include <utility>

namespace odmoe::server {
namespace {

uint64_t stored_bytes(const StoredResponse& response) {
  uint64_t bytes = ResponseStore::kResponseBytes + 2 * response.id.capacity() + response.owner.capacity() +
                   response.previous.capacity() + response.head.capacity() + response.tail.capacity();
  for (const auto* items : {&response.input, &response.output}) {
    bytes += (items->capacity() - items->size()) * sizeof(ResponseItemText);
    for (const ResponseItemText& item : *items) {
      bytes += ResponseStore::kItemBytes + item.id.capacity() + item.text.capacity();
    }
  }
  return bytes;
}

}  // namespace

bool ResponseStore::put(StoredResponse response) {
  const uint64_t bytes = stored_bytes(response);
  if (bytes > max_bytes_) return false;
  const MutexLock lock(mutex_);
  Entry* previous = nullptr;
  if (!response.previous.empty()) {
    const auto found = entries_.find(response.previous);
    if (found == entries_.end() || found->second.response->owner != response.owner) return false;
    previous = &found->second;
  }
  const std::string id = response.id;
  const auto [place, added] = entries_.try_emplace(id);
  if (!added) return false;
  Entry& entry = place->second;
  entry.response = std::make_shared<const StoredResponse>(std::move(response));
  entry.previous = previous;
  entry.bytes = bytes;
  entry.place = order_.insert(order_.end(), &entry);
  if (previous != nullptr) ++previous->n_next;
  bytes_ += bytes;
  bool kept = true;
  while ((bytes_ > max_bytes_ || entries_.size() > max_responses_) && !order_.empty()) {
    kept = kept && order_.front() != &entry;
    take_away(*order_.front());
  }
  return kept;
}

SharedResponse ResponseStore::find(const std::string& id, const std::string& owner) {
  const MutexLock lock(mutex_);
  Entry* const entry = entry_of(id, owner);
  if (entry == nullptr) return nullptr;
  touch(*entry);
  return entry->response;
}

bool ResponseStore::remove(const std::string& id, const std::string& owner) {
  const MutexLock lock(mutex_);
  Entry* const entry = entry_of(id, owner);
  if (entry == nullptr) return false;
  take_away(*entry);
  return true;
}

ResponseStore::History ResponseStore::history(const std::string& id, const std::string& owner) {
  const MutexLock lock(mutex_);
  Entry* const last = entry_of(id, owner);
  if (last == nullptr) return {};
  touch(*last);
  History history;
  for (const Entry* entry = last; entry != nullptr; entry = entry->previous) {
    history.responses.push_back(entry->response);
  }
  std::ranges::reverse(history.responses);
  ++last->n_next;
  history.hold =
      std::shared_ptr<const void>(last, [self = shared_from_this(), id](const void*) { self->release(id); });
  return history;
}

uint64_t ResponseStore::bytes() const {
  const MutexLock lock(mutex_);
  return bytes_;
}

size_t ResponseStore::size() const {
  const MutexLock lock(mutex_);
  return order_.size();
}

ResponseStore::Entry* ResponseStore::entry_of(const std::string& id, const std::string& owner) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || !found->second.there) return nullptr;
  return found->second.response->owner == owner ? &found->second : nullptr;
}

void ResponseStore::touch(Entry& entry) { order_.splice(order_.end(), order_, entry.place); }

void ResponseStore::take_away(Entry& entry) {
  entry.there = false;
  order_.erase(entry.place);
  forget_unused(&entry);
}

// One after the other, for a conversation may be long.
void ResponseStore::forget_unused(Entry* entry) {
  while (entry != nullptr && !entry->there && entry->n_next == 0) {
    Entry* const previous = entry->previous;
    bytes_ -= entry->bytes;
    entries_.erase(entry->response->id);
    if (previous != nullptr) --previous->n_next;
    entry = previous;
  }
}

void ResponseStore::release(const std::string& id) {
  const MutexLock lock(mutex_);
  Entry& entry = entries_.at(id);
  --entry.n_next;
  forget_unused(&entry);
}

}  // namespace odmoe::server
