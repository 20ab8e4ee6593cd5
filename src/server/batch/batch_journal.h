// What the requests of a batch that are under way have come to, in a folder beside their answers: whoever
// goes on after a kill, Ctrl-C or a full drive begins none of them anew.
//
//    written              what batch it is of; then each token as it is chosen, in lines with a checksum
//    PLACE-CHOICE.state   a KV cache (saved_state.h)
//
// Tokens are always there: what was read and written is read again as one text, divided as it was, which
// takes far fewer passes than writing it did.  KV caches are saved when the process is asked to end, and now
// and then of those that took long, where bringing one back takes less time than its evaluation took.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/file_descriptor.h"
#include "base/mutex.h"
#include "odmoe/result.h"
#include "server/generation_keeper.h"

namespace odmoe::server {

// What a drive brings of which nothing is known: one of the slow ones.
inline constexpr double kSlowDriveBytesPerSecond = 500e6;

// The folder of a batch whose answers go to `path`.
std::filesystem::path journal_path_of(const std::filesystem::path& path);

struct BatchJournalOptions {
  std::filesystem::path directory;  // made if it is not there
  std::string batch;                // what tells the batch from all others, one line: others' is forgotten
  std::string identity;             // Engine::state_identity()
  int32_t n_vocab = 0;              // ModelInfo::n_vocab: no other token is taken up
  int32_t chunk = 512;              // EngineOptions::chunk
  uint64_t state_bytes = 0;         // of KV caches on the drive, at most; 0: none are saved
  double drive_bytes_per_second = kSlowDriveBytesPerSecond;
  // Whether the drive has room for a KV cache of so many more, as whoever shares it out says; empty: it has.
  // NOLINTNEXTLINE(readability-redundant-member-init): GCC warns of initialisers that leave out one without.
  std::function<bool(uint64_t bytes)> has_room = {};
};

// Thread-safe.  A drive that fails here ends nothing: what is not kept is evaluated again.
class BatchJournal : public std::enable_shared_from_this<BatchJournal> {
 public:
  // Takes up what is there, but for requests that `is_done` says are answered.  kIo; kUsage when the folder
  // is a link, or others can get at it.
  static Result<std::shared_ptr<BatchJournal>> open(const BatchJournalOptions& options,
                                                    const std::function<bool(size_t place)>& is_done);

  // Of a choice of the request at a place; keeps the journal.
  std::shared_ptr<GenerationKeeper> keeper(size_t place, size_t choice);
  // The request is answered: nothing of it is needed any more.
  void done(size_t place);
  // From now on generations that are cancelled go on some day, and leave their KV caches.
  void interrupted();
  // None of them goes on.
  void discard();
  // Removes KV caches of so many bytes, or all; how many they were.  One that is being written goes as soon
  // as it is.
  uint64_t give_up_states(uint64_t bytes);

  // Until all that keeper() gave is gone, and with it what may still be written.
  void wait_for_keepers() const;

  uint64_t line_bytes() const;   // of tokens, on the drive
  uint64_t state_bytes() const;  // of KV caches, beside them
  // The same of one that is not open: all of it, and of KV caches.
  static uint64_t bytes_in(const std::filesystem::path& directory);
  static uint64_t state_bytes_in(const std::filesystem::path& directory);
  // Removes its KV caches.
  static void remove_states(const std::filesystem::path& directory);
  // Removes what a journal has left there, and the folder where there is nothing else in it.
  static void remove(const std::filesystem::path& directory);

 private:
  class Keeper;
  struct OfRequest {
    uint64_t line_bytes = 0;
    std::map<size_t, uint64_t> states;  // their bytes, by choice
  };
  explicit BatchJournal(const BatchJournalOptions& options) : options_(options) {}
  Status open_files(const std::function<bool(size_t place)>& is_done);
  std::string first_line() const;
  Status read_states(const std::function<bool(size_t place)>& is_done) ODMOE_REQUIRES(mutex_);
  // A KV cache on its way to the drive.
  struct Saving {
    uint64_t bytes = 0;
    bool given_up = false;
  };
  std::filesystem::path state_path(size_t place, size_t choice) const;
  KeptGeneration kept(size_t place, size_t choice) const;
  void append(size_t place, const std::string& line);
  void compact() ODMOE_REQUIRES(mutex_);
  uint64_t forget_state(size_t place, size_t choice) ODMOE_REQUIRES(mutex_);
  bool has_state(size_t place, size_t choice) const;
  bool save(size_t place, size_t choice, const Session& session);
  double seconds_of(uint64_t bytes) const {
    return static_cast<double>(bytes) / options_.drive_bytes_per_second;
  }

  const BatchJournalOptions options_;
  mutable Mutex mutex_;
  mutable Condition keeper_gone_;
  size_t n_keeper_ ODMOE_GUARDED_BY(mutex_) = 0;
  std::filesystem::path written_path_;
  FileDescriptor written_ ODMOE_GUARDED_BY(mutex_);
  uint64_t written_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;             // of whole lines
  std::map<size_t, OfRequest> under_way_ ODMOE_GUARDED_BY(mutex_);  // by place
  uint64_t live_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;                // of their lines
  std::vector<Saving*> saving_ ODMOE_GUARDED_BY(mutex_);
  uint64_t state_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;  // of their KV caches, and of those on their way
  bool interrupted_ ODMOE_GUARDED_BY(mutex_) = false, discarded_ ODMOE_GUARDED_BY(mutex_) = false;
};

}  // namespace odmoe::server
