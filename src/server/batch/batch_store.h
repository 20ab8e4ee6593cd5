// The batches of clients and their files, in a folder that outlives the server (--batch-dir):
//
//    lock             held by the process that serves it
//    files/           file_store.h
//    batches/ID.json  batch_record.h, replaced as a whole with each step of the batch
//    batches/ID.out   what is answered so far, with its ID.out.progress (batch_output.h) and
//                     ID.out.under-way/ (batch_journal.h)
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/mutex.h"
#include "io/output_file.h"
#include "server/batch/batch_record.h"
#include "server/batch/file_store.h"
#include "server/batch/kept_states.h"
#include "server/batch/list_page.h"

namespace odmoe::server {

struct BatchStoreOptions {
  std::filesystem::path directory;
  uint64_t disk_bytes = kDefaultBatchDiskBytes;
};

// Thread-safe.
class BatchStore {
 public:
  // Makes the folder if it is not there.  kUsage: it cannot be one (prepare_private_directory()), or another
  // process has it; kIo.
  static Result<std::shared_ptr<BatchStore>> open(const BatchStoreOptions& options,
                                                  UnixClock now = unix_time);

  FileStore& files() { return *files_; }
  KeptStates& states() { return *states_; }
  int64_t now() const { return files_->now(); }
  uint64_t disk_bytes() const { return disk_bytes_; }

  // Puts it at the end of the queue: its id, number, times and phase are set here.  400 when its input file
  // is not there.
  ApiResult<BatchRecord> create(BatchRecord record);
  std::optional<BatchRecord> find(const std::string& id, const std::string& owner) const;
  ApiResult<ListPage<BatchRecord>> list(const std::string& owner, const PageQuery& query) const;
  // Ends it: at once where it waits for its turn, else soon.  404, 409 when it is over, 500.
  ApiResult<BatchRecord> cancel(const std::string& id, const std::string& owner);

  // For who answers them, one thread:

  // The one whose turn it is, from now on until the next call; nothing within the time.  Keys have turns one
  // after the other, each with the first of its batches that is not over.
  std::optional<BatchRecord> next(std::chrono::milliseconds wait);
  // Whether batches of other keys wait than that of the one whose turn it is.
  bool others_wait() const;
  // Ends a wait.
  void wake();
  // Whether somebody cancelled the batch.
  bool is_cancelling(const std::string& id) const;
  // A step of the batch: `change` is made, and is on the drive when this returns.
  Result<BatchRecord> update(const std::string& id, const std::function<void(BatchRecord& record)>& change);
  // How many requests are done, for those who ask; on the drive with the next step.
  void count(const std::string& id, size_t completed, size_t failed);
  std::filesystem::path output_path(const std::string& id) const;
  void remove_output(const std::string& id);

 private:
  BatchStore(std::filesystem::path directory, OutputFile lock, std::unique_ptr<KeptStates> states,
             std::unique_ptr<FileStore> files, uint64_t disk_bytes)
      : directory_(std::move(directory)),
        lock_(std::move(lock)),
        states_(std::move(states)),
        files_(std::move(files)),
        disk_bytes_(disk_bytes) {}
  Status read_directory();
  Status keep(const BatchRecord& record);
  void put(BatchRecord record) ODMOE_REQUIRES(mutex_);
  void forget_old() ODMOE_REQUIRES(mutex_);

  struct Entry {
    BatchRecord record;
    size_t bytes = 0;
  };
  const std::filesystem::path directory_;  // of the batches
  const OutputFile lock_;
  const std::unique_ptr<KeptStates> states_;
  const std::unique_ptr<FileStore> files_;
  const uint64_t disk_bytes_;
  mutable Mutex mutex_;
  Condition changed_;
  std::map<std::string, Entry> batches_ ODMOE_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> last_turns_ ODMOE_GUARDED_BY(mutex_);  // of keys
  uint64_t turns_ ODMOE_GUARDED_BY(mutex_) = 0;
  std::string current_ ODMOE_GUARDED_BY(mutex_);  // that next() gave; empty: none
  size_t record_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;
  uint64_t last_number_ ODMOE_GUARDED_BY(mutex_) = 0;
  uint64_t woken_ ODMOE_GUARDED_BY(mutex_) = 0;
};

}  // namespace odmoe::server
