// Where a generation is kept whose process may end before it does: another process goes on from there, with
// the same bits.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "server/scheduler.h"

namespace odmoe::server {

// What an earlier process came to.
struct KeptGeneration {
  std::vector<GeneratedToken> written;
  std::optional<Ending> ending;  // that follows them; nothing: more may
};

// Of one generation; used by one thread at a time, the scheduler's once it is submitted.
class GenerationKeeper {
 public:
  virtual ~GenerationKeeper() = default;

  // Before it is submitted.
  virtual KeptGeneration kept() = 0;

  // Tokens, the first of `text`, that restore() brings back: `text` is the prompt and what was written, and
  // `division` how it is divided.
  virtual int32_t restorable(std::span<const Token> text, const Division& division) = 0;
  // Replaces the session's timeline by them; how many they are, 0 when that failed: the timeline is empty.
  virtual int32_t restore(Session& session) = 0;

  // A token was chosen.
  virtual void wrote(const GeneratedToken& token) = 0;
  // It goes on, after evaluations that took so long; the session has what was evaluated so far.  Whether it
  // is time to save() that.
  virtual bool went_on(const Session& session, double seconds) = 0;
  // Keeps all that the session remembers, which nobody changes meanwhile; false when that cannot be.  In
  // another thread than the others, of which none is called before it returns.
  virtual bool save(const Session& session) = 0;
  // It has come to its end: kEndToken, kGrammar, kLength or kContextFull.
  virtual void ended(Ending ending) = 0;
  // It was cancelled before that, after evaluations of which it was not told yet.  Whether what the session
  // remembers is worth a save().
  virtual bool interrupted(const Session& session, double seconds) = 0;
};

}  // namespace odmoe::server
