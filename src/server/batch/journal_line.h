// The lines in which a batch's journal (batch_journal.h) keeps what is written:
//
//    CHECKSUM PLACE CHOICE FIRST TOKEN...     tokens of a choice from its FIRST on
//    CHECKSUM PLACE CHOICE FIRST end NAME     its end, behind so many
//
// A token is its number, with log-probabilities NUMBER:BITS and :NUMBER:BITS for each of the likeliest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/generation_keeper.h"

namespace odmoe::server {

struct JournalLine {
  size_t place = 0, choice = 0, first = 0;
  std::string_view what;  // behind these
};

// Of one token at least, and of an end: kEndToken, kGrammar, kLength or kContextFull.  With the line's end.
std::string journal_line(size_t place, size_t choice, size_t first, std::span<const GeneratedToken> tokens);
std::string journal_line(size_t place, size_t choice, size_t first, Ending ending);

// Of a line without its end, which must outlive what it says; nothing: it is none, or damaged.
std::optional<JournalLine> read_journal_line(std::string_view line);

// What the line says of its choice, behind what is `kept` of that already: tokens that were written once are
// what is written again, and end before one that the model does not have.
void take_journal_line(const JournalLine& line, int32_t n_vocab, KeptGeneration& kept);

}  // namespace odmoe::server
