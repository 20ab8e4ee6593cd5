// The KV caches that batches have on the drive (batch_journal.h), those of all of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "server/batch/batch_journal.h"
#include "server/batch/file_store.h"

namespace odmoe::server {

// Thread-safe.
class KeptStates final : public SpareFiles {
 public:
  // Of a batch whose journal nobody has open, in its folder (journal_path_of()), which may not be there.
  void take(const std::string& batch, const std::filesystem::path& directory);
  // Of one whose journal is open, until take() or forget().
  void open(const std::string& batch, std::shared_ptr<BatchJournal> journal);
  void forget(const std::string& batch);

  uint64_t bytes() const override;
  // First those of batches that wait for their turn.
  void give_up(uint64_t bytes) override;

 private:
  struct OfBatch {
    std::filesystem::path directory;
    uint64_t bytes = 0;                     // in it
    std::shared_ptr<BatchJournal> journal;  // which knows, where it is open
  };
  mutable Mutex mutex_;
  std::map<std::string, OfBatch> batches_ ODMOE_GUARDED_BY(mutex_);
};

}  // namespace odmoe::server
