// Answers the batches of a BatchStore, one after the other in the order in which they came, while nobody
// else has anything to be answered.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/joining_thread.h"
#include "base/mutex.h"
#include "server/batch/batch_runner.h"
#include "server/batch/batch_store.h"

namespace odmoe::server {

// What the worker takes of memory beside the engine, for the memory plan: `sessions` of batches.
uint64_t batch_worker_bytes(const ServerOptions& options, int32_t sessions);

// Thread-safe.
class BatchWorker {
 public:
  // `options` is the server's.  `sessions`: those of the scheduler that are patient.
  BatchWorker(std::shared_ptr<BatchStore> store, std::shared_ptr<ServedModel> model,
              const ServerOptions& options, int32_t sessions);
  ~BatchWorker();  // stop() and join()
  BatchWorker(const BatchWorker&) = delete;
  BatchWorker& operator=(const BatchWorker&) = delete;

  // No answer is taken any more; what is under way is left for the next process.  At once; the thread ends
  // soon.
  void stop();
  void join() { thread_.join(); }

 private:
  // Why a batch does not go on.
  enum class Stopped { kNot, kForNow, kCancelled, kExpired, kFull, kNoInput };
  void run();
  Status go_on(BatchRecord record);
  Result<BatchRecord> validate(const BatchRecord& record);
  Result<BatchRecord> answer(const BatchRecord& record);
  Status recount(const BatchRecord& record);
  Result<BatchRecord> finish_answering(const BatchRecord& record, Stopped why);
  Status finalize(const BatchRecord& record);
  Status write_files(const BatchRecord& record);
  Stopped look(const BatchRecord& record) const;
  bool is_stopping() const;
  Result<BatchInput> open_input(const BatchRecord& record, std::function<bool()> goes_on,
                                std::function<void(const BatchRequest& request, size_t place)> each) const;
  Result<std::optional<BatchInput>> input_of_ended(const BatchRecord& record) const;
  Result<BatchOutput> open_answers(const BatchRecord& record, const std::optional<BatchInput>& input) const;
  Result<BatchRecord> fail_batch(const BatchRecord& record, std::vector<BatchFault> faults);

  const std::shared_ptr<BatchStore> store_;
  BatchService service_;
  const std::shared_ptr<RequestMemory> line_memory_;
  const size_t max_line_bytes_;
  mutable Mutex mutex_;
  Condition stopping_changed_;
  bool stopping_ ODMOE_GUARDED_BY(mutex_) = false;
  JoiningThread thread_;  // the last member: it uses the others
};

}  // namespace odmoe::server
