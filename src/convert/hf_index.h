// model.safetensors.index.json: which file of a sharded checkpoint each tensor is in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "odmoe/result.h"

namespace odmoe {

inline constexpr uint64_t kMaxHfIndexBytes = 128U
                                             << 20U;  // Kimi-K2.5's, with 200 thousand tensors, has 25 MB
inline constexpr size_t kMaxHfShards = 1024;          // DeepSeek-V3 has 163
inline constexpr size_t kMaxHfTensors = 1U << 20U;

struct HfIndex {
  std::vector<std::string> shards;  // names of files beside the index, in order of appearance
  std::vector<std::pair<std::string, int>> tensors;  // name, index into shards
};

// Parses an index; memory is in proportion to the number of tensors.  `name` is what errors call it.
// Errors: kBadFile (no JSON, no weight_map, a shard that is not a plain name of a .safetensors file, a
// limit).
Result<HfIndex> parse_hf_index(std::string_view text, const std::string& name);

}  // namespace odmoe
