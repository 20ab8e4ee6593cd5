// The answers of a batch, in the order of its requests: a file of whole lines, and beside it one that holds
// what an interrupted batch goes on from.
//
// Answers come in any order.  OUT takes those whose turn it is; those that are ahead wait in OUT.progress,
// whose first line says what batch it is.  What a crash or a full drive left of a line counts for nothing.
// OUT.progress goes when OUT is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/file_descriptor.h"
#include "odmoe/result.h"
#include "server/batch/batch_input.h"

namespace odmoe::server {

// Every answer is a line that begins so, {"id":"batch_req_ID", for the request of that id.
std::string batch_line_beginning(std::string_view id);

// Whether such a line says that its request could not be answered.
bool is_failed_answer(std::string_view line);

enum class BatchState { kNew, kUnfinished, kComplete };

// How far a batch is that is to be written to `path`, by its files alone.  kUsage: a file is there that is
// not its output, or not all of it and nothing says how far it was.
Result<BatchState> batch_state(const std::filesystem::path& path, const BatchInput& input);

// One owner.
class BatchOutput {
 public:
  // Begins or goes on.  `identity`: all that decides about the answers, but when the batch was begun, which
  // is `now` (Unix time) if it is begun; empty: of what is there already, whatever it is.  kIo; kUsage: what
  // is there is of another identity, or another process writes it.
  static Result<BatchOutput> open(const std::filesystem::path& path, const BatchInput& input,
                                  std::string_view identity, int64_t now,
                                  const odmoe::Clock& clock = SteadyClock::instance());
  // Of a batch whose input cannot be read any more: each line that may be an answer is one, as far as lines
  // are whole.  To count and to read, and not to put.
  static Result<BatchOutput> open_without_input(const std::filesystem::path& path, int64_t now,
                                                const odmoe::Clock& clock = SteadyClock::instance());

  const std::filesystem::path& path() const { return path_; }
  // All that decides about the answers, but begun(), as the first process said it.
  const std::string& identity() const { return identity_; }
  // When the batch was begun, by this process or an earlier one.
  int64_t begun() const { return begun_; }

  bool is_done(size_t place) const { return place < next_ || ahead_.contains(place); }
  size_t n_done() const { return next_ + ahead_.size(); }
  size_t n_failed() const { return n_failed_; }                       // of those
  uint64_t bytes() const { return output_bytes_ + progress_bytes_; }  // that the files have

  // Every answer that is there, in the order of the requests, also of a batch that is not complete.
  Status each_answer(const std::function<Status(std::string_view line)>& take) const;

  // The answer to the request at a place: a line without its end, that begins as batch_line_beginning() says.
  // kIo: a full drive, say; what was written before stays good.
  Status put(size_t place, std::string_view line);
  // All are there.
  Status finish();
  // What was put lasts when the power goes.  Done now and then without being asked.
  Status sync();

 private:
  struct Ahead {
    uint64_t offset = 0;  // in OUT.progress
    uint64_t bytes = 0;
  };
  explicit BatchOutput(const odmoe::Clock& clock) : clock_(&clock) {}
  static Result<BatchOutput> open_of(const std::filesystem::path& path, const BatchInput* input,
                                     std::string_view identity, int64_t now, const odmoe::Clock& clock);
  Status open_progress(std::string_view identity, int64_t now);
  std::unexpected<Error> of_another_batch() const;
  Status read_output(const BatchInput* input);
  Status read_ahead(const BatchInput* input);
  Status append(std::string_view line);
  Result<std::string> read_ahead_of(const Ahead& where) const;
  Status append_ahead(size_t place, std::string_view line);
  Status catch_up();

  const odmoe::Clock* clock_;
  std::filesystem::path path_, progress_path_;
  FileDescriptor output_, progress_;
  uint64_t output_bytes_ = 0, progress_bytes_ = 0;  // of whole lines
  std::string identity_;
  int64_t begun_ = 0;
  uint64_t first_line_bytes_ = 0;  // of OUT.progress
  size_t next_ = 0;                // the place whose turn it is
  size_t n_failed_ = 0;
  std::map<size_t, Ahead> ahead_;
  int64_t next_sync_us_ = 0;
};

}  // namespace odmoe::server
