// Any bytes as model.safetensors.index.json.
//
//   hf_index_fuzzer -max_total_time=60 -rss_limit_mb=1024 NEW_CORPUS fuzz/corpus/hf_index
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "convert/hf_index.h"
#include "gguf_exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto index = odmoe::parse_hf_index({reinterpret_cast<const char*>(data), size}, "fuzz");
  odmoe::testing::exercise_result(index);
  if (!index.has_value()) return 0;
  for (const auto& [name, shard] : index->tensors) {
    odmoe::testing::must(shard >= 0 && static_cast<size_t>(shard) < index->shards.size(),
                         "a tensor has a file");
  }
  for (const std::string& shard : index->shards) {
    odmoe::testing::must(shard.find('/') == std::string::npos, "a file is beside the index");
  }
  return 0;
}
