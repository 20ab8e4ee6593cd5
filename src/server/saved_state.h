// The file of a saved KV cache: the tokens of a timeline, and what Session::save_state() gave for them.
//
//    offset  bytes
//        0      8  "ODMOEKV2", as one number in the machine's byte order
//        8      4  n: bytes of the identity
//       12      4  t: tokens
//       16      4  d: stretches of their division (Session::division)
//       20      4  o: bytes of the owner
//       24      8  s: bytes of the state
//       32      8  XXH3 of the state
//       40      8  XXH3 of all that is before and behind this number, up to the state
//       48      n  Engine::state_identity() of the engine that it belongs to
//     48+n      o  whose text it is (PromptCache)
//   48+n+o    4 t  the tokens
//  48+n+o+4t  4 d  the stretches: each one's end, and the highest bit where it is of single tokens
// 48+n+o+4t+4d s  the state, and the file's end
//
// Files of earlier versions ("ODMOEKV1") have another number for d, and no stretches: how their tokens were
// divided is not known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "odmoe/result.h"
#include "odmoe/session.h"

namespace odmoe::server {

// All but the state itself.
struct SavedStateHeader {
  std::string identity;
  std::string owner;
  std::vector<Token> tokens;                 // at least one
  std::vector<Division::Stretch> stretches;  // are_valid(), of no more than the tokens
  uint64_t state_bytes = 0;
  uint64_t state_checksum = 0;
  // Where the state begins: the size of the header.
  uint64_t state_offset() const;
  uint64_t file_bytes() const { return state_offset() + state_bytes; }
};

// The bytes in front of the state.
std::vector<std::byte> encode_header(const SavedStateHeader& header);

// Whether these bytes, at least 8, begin as such a file does; of another kind of file nothing is known.
bool is_saved_state(std::span<const std::byte> beginning);

// Reads the bytes in front of the state, of a file of `file_bytes`; `bytes` may go on behind them.  kBadFile,
// naming `name`, when they are not what encode_header() wrote, or the file is not as long as they say.
Result<SavedStateHeader> parse_header(std::span<const std::byte> bytes, uint64_t file_bytes,
                                      const std::string& name);

// The same of a file; reads no more than the header.  kIo, kBadFile.
Result<SavedStateHeader> read_header(const std::filesystem::path& path);
// The state, of header.state_bytes, into `state`.  kIo; kBadFile when it is not the one that was written.
Status read_state(const std::filesystem::path& path, const SavedStateHeader& header,
                  std::span<std::byte> state);

// Writes such a file of all that a session remembers, whose division is known to its end, under another name
// first.  Takes no copy of it in memory.  kIo.
Status write_session(const std::filesystem::path& path, const std::string& identity, const std::string& owner,
                     const Session& session);
// Replaces the session's timeline by what such a file has, of which `header` was read.  kIo, kBadFile,
// kUsage: the timeline is then empty.
Status read_session(const std::filesystem::path& path, const SavedStateHeader& header,
                    const Division& division, Session& session);

}  // namespace odmoe::server
