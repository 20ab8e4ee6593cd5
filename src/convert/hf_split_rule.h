// Which of the splitting rules that GGUF has names for a tokenizer.json means.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "odmoe/result.h"

namespace odmoe {

// `pre_tokenizer` is tokenizer.json's; `ignore_merges` its model's.  Returns what tokenizer.ggml.pre names
// it. kUnsupported, with the expression and the names that are known.
Result<std::string> hf_split_rule(const nlohmann::json& pre_tokenizer, bool ignore_merges,
                                  const std::string& name);

}  // namespace odmoe
