// The map of experts as the live feed sends it: a letter for each expert, and what changes as short text.
//
// Small letters say where an expert is: a (absent: nobody asked for it yet), e (evicted: it was asked for and
// is not in memory), l (loading), r (resident).  A capital says that it was asked for since the last letter:
// E, L, R at least half as often as the one that was asked for most often, F, M, S less than that.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "odmoe/result.h"
#include "odmoe/stats.h"

namespace odmoe::server {

// The letter of an expert that was asked for `uses` times since its last one, the busiest expert `most`
// times.
char expert_letter(const ExpertView& expert, uint32_t uses, uint32_t most);

// Whether it is one, and the one that it becomes when nobody asks for the expert any more.
bool is_expert_letter(char letter);
char at_rest(char letter);

// What turns `before`, once all of it is at rest, into `now`, which is as long: the letters that differ, and
// between them in decimal how many that do not were passed over.  From "rrrr" to "rrLe": "2Le".
std::string map_changes(std::string_view before, std::string_view now);

// Does that to `letters`.  kBadFile when `changes` is not such a text or goes beyond the last letter;
// `letters` are valid ones then too.
Status apply_map_changes(std::string_view changes, std::string& letters);

}  // namespace odmoe::server
