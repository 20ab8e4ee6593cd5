// The tensors of a checkpoint that nothing is made of: each is of a part that is left out, or an error that
// names it.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "convert/hf_checkpoint.h"
#include "odmoe/result.h"

namespace odmoe {

// Notes of what is left out and why, a line for each part: vision towers, layers for speculation, what a tied
// head repeats.  `config` is the text model's, `prefix` hf_name_prefix(), `used` the names of what is made.
// Errors: kUnsupported for any other tensor; kBadFile for a layer that config.json does not count.
Result<std::vector<std::string>> hf_left_over(const HfCheckpoint& checkpoint, const HfConfig& config,
                                              std::string_view prefix,
                                              const std::set<std::string_view>& used);

}  // namespace odmoe
