// How conversations were divided into evaluations: of each prompt that was asked, and of what was written
// after it one token at a time.
//
// A conversation comes back as text, and a text does not say what of it was written here.  Evaluated anew, in
// chunks, what was written would get other last bits than it had; and so would all that follows.  So it is
// remembered, in some bytes for each answer where its KV cache takes megabytes, and whether that is there or
// has to be computed again, a conversation is divided as it was when it was had:
//
//   - a prompt that was asked before is divided as it was then;
//   - else one that begins as a prompt with what was written after it, one token of that at least, is divided
//     so as far as it does, and goes on in chunks from there; of several the one of which it has most;
//   - else it is divided in chunks from its first token on.
//
// Nothing of this depends on what a cache holds or on who else is served.  Texts are remembered by their
// checksums, a prompt by 64 bits and what was written by 8 of each token.  Where chance makes two the same, a
// text is divided in another way than it need be, and in the same way every time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/output_file.h"
#include "odmoe/division.h"
#include "odmoe/result.h"
#include "odmoe/session.h"

namespace odmoe::server {

struct TurnLedgerOptions {
  int32_t chunk = 512;         // EngineOptions::chunk
  uint64_t memory_bytes = 0;   // at most; those used longest ago are forgotten
  std::filesystem::path file;  // where it outlives the process; empty: nowhere
  std::string identity;        // of the model (Engine::state_identity()), where there is a file
};

// For one thread.
class TurnLedger {
 public:
  // Reads the file as far as it is sound.  The log has a line when it cannot be written, or when another
  // process has it; then nothing outlives this one.
  explicit TurnLedger(const TurnLedgerOptions& options);
  TurnLedger(const TurnLedger&) = delete;
  TurnLedger& operator=(const TurnLedger&) = delete;

  struct Place {
    uint64_t key = 0;  // of whose prompt, and which
    Division division;
  };
  // The file of a model in a directory that has one for each; of other models those written last are left,
  // the others removed.
  static std::filesystem::path file_in(const std::filesystem::path& directory, std::string_view identity);

  // How to divide a prompt, of one owner, that is asked now; the same when it is asked again.
  Place divide(std::string_view owner, std::span<const Token> prompt);
  // What was written after it, evaluated one token at a time; maybe nothing.
  void wrote(const Place& place, std::span<const Token> tokens);

  struct Stats {
    size_t prompts = 0;
    uint64_t memory_bytes = 0;
  };
  Stats stats() const { return {.prompts = entries_.size(), .memory_bytes = memory_bytes_}; }

 private:
  // What was written after a prompt at one time: of each token 8 bits.
  using Run = std::vector<uint8_t>;
  struct Entry {
    explicit Entry(Division divided) : division(std::move(divided)) {}
    uint64_t key = 0;
    Division division;      // of the prompt
    std::vector<Run> runs;  // none is the beginning of another; the last one is the newest
    uint64_t bytes() const;
  };
  using Entries = std::list<Entry>;  // used last first

  void read();
  Entry& entry(uint64_t key, const Division& division);
  void add_run(Entry& to, Run run);
  void forget_oldest();
  void append(std::span<const std::byte> bytes);
  Status rewrite();

  TurnLedgerOptions options_;
  Entries entries_;
  std::unordered_map<uint64_t, Entries::iterator> by_key_;
  uint64_t memory_bytes_ = 0;
  std::optional<OutputFile> file_;
  uint64_t file_bytes_ = 0;
};

}  // namespace odmoe::server
