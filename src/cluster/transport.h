// Carries bytes between the ranks of a cluster: processes, on one machine or on several, that hold the
// experts of one model together.  Rank 0 is the head, which evaluates; the others compute experts for it.
//
// Two kinds go between two ranks, each in the order in which it was sent, and neither waits for the other:
//   notes     small and copied: who is there, hints, the end
//   messages  large, of layers: one at a time in each direction, into room set aside by the receiver
//
// MPI is one implementation (src/mpi); testing.h has one between threads of a process.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "odmoe/result.h"

namespace odmoe {

// Thread-safe, but that messages of one rank are received by one thread at a time, and sent to it by one.
// Errors are kIo: another rank has gone, or cannot be reached.  Once there was one all calls return it, until
// regroup() has made it good.
class Transport {
 public:
  static constexpr size_t kMaxNoteBytes = 32 << 10;
  static constexpr int kMaxRanks = 255;

  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int n_rank() const = 0;
  virtual const std::string& host(int rank) const = 0;

  // Returns at once.  kBudget: the other rank has taken none for so long that there is no room; only then may
  // the next one be sent all the same.
  virtual Status send_note(int to, std::span<const std::byte> note) = 0;
  struct Note {
    int from = 0;
    size_t bytes = 0;  // at the front of `into`
  };
  // The next note of any rank, into room for kMaxNoteBytes; nothing when none has come in time.
  virtual Result<std::optional<Note>> receive_note(std::span<std::byte> into,
                                                   std::chrono::milliseconds timeout) = 0;

  // Room for messages of up to so many bytes from each other rank.  Once, before they send any.  kIo: there
  // is no memory for it; kUsage: it cannot send as much.
  virtual Status make_room(uint64_t message_bytes) = 0;
  // Starts to send and returns; the bytes stay as they are until wait_sent(), or an answer, has come.
  virtual Status send(int to, std::span<const std::byte> message) = 0;
  // False when the last message could not be handed over in time.
  virtual Result<bool> wait_sent(int to, std::chrono::milliseconds timeout) = 0;
  // The next message of a rank, valid until the next call for it; nothing when none has come in time.
  virtual Result<std::optional<std::span<const std::byte>>> receive(int from,
                                                                    std::chrono::milliseconds timeout) = 0;

  // Whether that was a rank that has gone, and those that are left can go on without it.  Never without the
  // head.
  virtual bool can_regroup() const { return false; }
  // All that are left call it, and until it returns nobody else calls anything.  Then nothing that was sent
  // before comes any more, what was being sent is the sender's again, and rooms are as they were.  kIo: it
  // cannot be done, or took longer; nothing works any more then.
  virtual Status regroup(std::chrono::milliseconds /*timeout*/) {
    return fail(ErrorKind::kIo, "ranks cannot go on without one that has gone");
  }
  // False for a rank that has gone; numbers stay what they were.
  virtual bool is_there(int /*rank*/) const { return true; }

  // The last call: what was sent arrives, and returns once all ranks have called it.
  virtual void leave() {}
  // Or this one, when that cannot be waited for: all ranks are ended, this one with the exit code.
  virtual void abort(int /*exit_code*/) {}
};

// "rank 2 (mac3)", for people.
inline std::string rank_name(const Transport& transport, int rank) {
  return odmoe::format("rank {} ({})", rank, transport.host(rank));
}

}  // namespace odmoe
