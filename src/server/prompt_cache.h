// KV caches of timelines whose session was given to somebody else: in memory, and in files that survive the
// process.
//
// A prompt that begins as one of them did takes it up again instead of evaluating those tokens anew.  What is
// written to a session's end is the state of its first tokens (Session::save_state), so that what follows is
// bit for bit what it would have been in that session.
//
// Every text has an owner, any text of at most 256 bytes, and none finds what another's is: how much of a
// prompt was there before tells what others asked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/mutex.h"
#include "odmoe/session.h"
#include "server/saved_state.h"

namespace odmoe::server {

// How a prompt is divided into evaluations, and which tokens of a timeline that begins as it does are not
// evaluated again.
enum class PromptReuse {
  // In chunks from its first token on, whatever was there before; taken up is what was divided so.  The
  // logits
  // are a matter of the prompt's tokens alone.
  kExact,
  // As the conversation was divided when it was had: what was written here one by one, what was read in
  // chunks
  // (turn_ledger.h); taken up is what was divided so.  The logits are a matter of the conversation.
  kConversation,
  // In chunks from where something that is equal ends, however that was divided.  The kernels round
  // differently
  // for one token and for many, so that the last bits of the logits depend on what is there.
  kLongest,
};

// A prompt, and how it is to be divided.
struct DividedPrompt {
  std::span<const Token> tokens;
  Division division;  // of all of them
};

// How many of a prompt's tokens are not evaluated again when those of a timeline are `tokens`, of which
// `division` is known.  What the prompt's last token is evaluated with always is, for its logits.
int32_t reusable(const DividedPrompt& prompt, std::span<const Token> tokens, const Division& division,
                 PromptReuse reuse);

// The same of a session's timeline, as far as it can be taken back (Session::reachable()).
int32_t reusable(const DividedPrompt& prompt, const Session& session, PromptReuse reuse);

struct PromptCacheOptions {
  uint64_t memory_bytes = 0;        // of the states in memory; files are written and read by way of it
  std::filesystem::path directory;  // of the files; empty: none.  Made if it is not there
  uint64_t disk_bytes = 0;          // of all files of saved states in it, other models' among them
  std::string identity;             // Engine::state_identity(), where there is a directory
  // Whether the engine's states still belong to that; asked, by any thread, before a file is written or read.
  std::function<Status()> check_identity;
  int32_t chunk = 512;  // EngineOptions::chunk
  PromptReuse reuse = PromptReuse::kConversation;
  bool states_hold_every_length = true;  // ModelInfo::state_holds_every_length
};

// For one thread, but for stats(); has a thread of its own that writes files.  The least recently used goes
// first, in memory and on disk.  A file that is damaged is removed, one that is something else left alone;
// neither is used, and the log has a line of it.
class PromptCache {
 public:
  // kUsage as prepare().
  static Result<std::unique_ptr<PromptCache>> create(const PromptCacheOptions& options);
  // Makes the directory, for its owner alone, if it is not there.  kUsage when that cannot be, when no files
  // can be made in it, or when it is another user's or open to others: who can read it can read the texts.
  static Status prepare(const std::filesystem::path& directory);
  // Waits until what was saved is written.
  ~PromptCache();
  PromptCache(const PromptCache&) = delete;
  PromptCache& operator=(const PromptCache&) = delete;

  // How many of the prompt's tokens restore() would bring back at best.
  int32_t find(std::string_view owner, const DividedPrompt& prompt) const;
  // Puts that state into the session and returns how many tokens its timeline has then; 0 when there is none
  // (any more), and the timeline is empty.
  int32_t restore(std::string_view owner, const DividedPrompt& prompt, Session& session);

  // Keeps what is worth keeping of a session whose timeline is about to be forgotten but for its first `kept`
  // tokens.  Copies memory; the file is written by the thread.  Does nothing when there is no room because
  // others are still being written, unless `wait`.
  void save(std::string_view owner, const Session& session, int32_t kept, bool wait = false);
  // Keeps the first n tokens (Session::reachable(n) == n) of a session whose timeline goes on, as save()
  // does.
  void keep(std::string_view owner, const Session& session, int32_t n, bool wait = false);

  struct Stats {
    size_t states = 0, files = 0;
    uint64_t memory_bytes = 0, disk_bytes = 0;
  };
  Stats stats() const;

 private:
  struct State {
    explicit State(Division divided) : division(std::move(divided)) {}
    std::string owner;
    std::vector<Token> tokens;
    Division division;
    AlignedBuffer memory;  // may be larger than the state
    uint64_t state_bytes = 0;
    uint64_t bytes() const { return state_bytes + tokens.size() * sizeof(Token); }
  };
  struct File {
    std::filesystem::path path;
    SavedStateHeader header;  // without tokens where it belongs to another model
    Division division;
    std::filesystem::file_time_type used;
    bool ours = false;
    uint64_t bytes = 0;
  };
  struct Found {
    int32_t n = 0;
    std::shared_ptr<State> state;  // in memory, or else
    std::filesystem::path file;
  };
  explicit PromptCache(const PromptCacheOptions& options);
  Status read_directory();
  bool holds(std::span<const Token> tokens, const Division& division, std::span<const Token> others,
             const Division& of_others) const;
  int32_t worth_saving(const Session& session, int32_t most) const;
  int32_t reusable_of(const DividedPrompt& prompt, std::span<const Token> tokens,
                      const Division& division) const;
  Found best(std::string_view owner, const DividedPrompt& prompt) const ODMOE_REQUIRES(mutex_);
  bool covered(const State& state) const ODMOE_REQUIRES(mutex_);
  // Gives the lock up while it waits.
  bool make_room(uint64_t bytes, bool wait) ODMOE_REQUIRES(mutex_);
  void insert(std::shared_ptr<State> state) ODMOE_REQUIRES(mutex_);
  // Gives the lock up in between.
  std::shared_ptr<State> read(const std::filesystem::path& path) ODMOE_REQUIRES(mutex_);
  void forget_file(const std::filesystem::path& path) ODMOE_REQUIRES(mutex_);
  void write_files();
  Status write(const State& state);

  PromptCacheOptions options_;
  mutable Mutex mutex_;
  Condition written_, work_;
  std::list<std::shared_ptr<State>> states_
      ODMOE_GUARDED_BY(mutex_);  // used last first; those of to_write_ stay
  uint64_t memory_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;
  std::list<std::shared_ptr<State>> to_write_ ODMOE_GUARDED_BY(mutex_);  // the first may be under way
  std::vector<File> files_ ODMOE_GUARDED_BY(mutex_);
  uint64_t disk_bytes_ ODMOE_GUARDED_BY(mutex_) = 0;
  bool stop_ ODMOE_GUARDED_BY(mutex_) = false;
  std::thread writer_;
};

}  // namespace odmoe::server
