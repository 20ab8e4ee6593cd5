// Answers the batches of a BatchStore, one at a time, while nobody else has anything to be answered.  Keys
// have turns one after the other: a batch gives way to those of other keys when it has gone on for
// kBatchTurnSeconds, and goes on where it was when its turn has come again.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/joining_thread.h"
#include "base/mutex.h"
#include "server/batch/batch_journal.h"
#include "server/batch/batch_runner.h"
#include "server/batch/batch_store.h"

namespace odmoe::server {

// What the worker takes of memory beside the engine, for the memory plan: `sessions` of batches.
uint64_t batch_worker_bytes(const ServerOptions& options, int32_t sessions);

inline constexpr int64_t kBatchTurnSeconds = 600;

struct BatchWorkerOptions {
  int32_t sessions = 1;  // those of the scheduler that are patient
  int32_t chunk = 512;   // EngineOptions::chunk
  std::chrono::milliseconds pause_after_failure = std::chrono::seconds(30);
};

// Thread-safe.
class BatchWorker {
 public:
  // `server` is the server's.
  BatchWorker(std::shared_ptr<BatchStore> store, std::shared_ptr<ServedModel> model,
              const ServerOptions& server, const BatchWorkerOptions& options);
  ~BatchWorker();  // stop() and join()
  BatchWorker(const BatchWorker&) = delete;
  BatchWorker& operator=(const BatchWorker&) = delete;

  // No answer is taken any more; what is under way is left for the next process.  At once; the thread ends
  // soon.
  void stop();
  void join() { thread_.join(); }

 private:
  // Why a batch does not go on.
  enum class Stopped { kNot, kForNow, kTurnOver, kCancelled, kExpired, kFull, kNoInput, kBadInput };
  void run();
  bool is_input_lost(const BatchRecord& record);
  Status end_without_input(const BatchRecord& record);
  Status go_on(BatchRecord record);
  Result<BatchRecord> validate(const BatchRecord& record);
  Result<BatchRecord> answer(const BatchRecord& record);
  Status recount(const BatchRecord& record);
  Result<BatchRecord> finish_answering(const BatchRecord& record, Stopped why);
  Status finalize(const BatchRecord& record);
  Status write_files(const BatchRecord& record, BatchUsage& usage);
  Stopped look(const BatchRecord& record) const;
  bool is_stopping() const;
  Result<BatchInput> open_input(const BatchRecord& record, std::function<bool()> goes_on,
                                std::function<void(const BatchRequest& request, size_t place)> each) const;
  Result<std::optional<BatchInput>> input_of_ended(const BatchRecord& record) const;
  Result<BatchOutput> open_answers(const BatchRecord& record, const std::optional<BatchInput>& input) const;
  Result<BatchRecord> fail_batch(const BatchRecord& record, std::vector<BatchFault> faults);

  const std::shared_ptr<BatchStore> store_;
  BatchService service_;
  const BatchWorkerOptions options_;
  const std::shared_ptr<RequestMemory> line_memory_;
  const size_t max_line_bytes_;
  // Of the thread: how many times the input of a batch could not be read.
  std::map<std::string, int> input_failures_;
  mutable Mutex mutex_;
  Condition stopping_changed_;
  bool stopping_ ODMOE_GUARDED_BY(mutex_) = false;
  std::shared_ptr<BatchJournal> journal_ ODMOE_GUARDED_BY(mutex_);  // of the batch that is answered
  JoiningThread thread_;                                            // the last member: it uses the others
};

}  // namespace odmoe::server
