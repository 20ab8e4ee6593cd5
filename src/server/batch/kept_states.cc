#include "server/batch/kept_states.h"

#include <algorithm>
#include <utility>

namespace odmoe::server {

void KeptStates::take(const std::string& batch, const std::filesystem::path& directory) {
  const MutexLock lock(mutex_);
  batches_[batch] = {
      .directory = directory, .bytes = BatchJournal::state_bytes_in(directory), .journal = nullptr};
}

void KeptStates::open(const std::string& batch, std::shared_ptr<BatchJournal> journal) {
  const MutexLock lock(mutex_);
  batches_[batch] = {.directory = {}, .bytes = 0, .journal = std::move(journal)};
}

void KeptStates::forget(const std::string& batch) {
  const MutexLock lock(mutex_);
  batches_.erase(batch);
}

uint64_t KeptStates::bytes() const {
  const MutexLock lock(mutex_);
  uint64_t bytes = 0;
  for (const auto& [id, batch] : batches_) {
    bytes += batch.journal != nullptr ? batch.journal->state_bytes() : batch.bytes;
  }
  return bytes;
}

void KeptStates::give_up(uint64_t bytes) {
  const MutexLock lock(mutex_);
  for (auto& [id, batch] : batches_) {
    if (bytes == 0) return;
    if (batch.journal != nullptr || batch.bytes == 0) continue;
    BatchJournal::remove_states(batch.directory);
    bytes -= std::min(bytes, std::exchange(batch.bytes, 0));
  }
  for (auto& [id, batch] : batches_) {
    if (batch.journal != nullptr && bytes > 0) bytes -= std::min(bytes, batch.journal->give_up_states(bytes));
  }
}

}  // namespace odmoe::server
