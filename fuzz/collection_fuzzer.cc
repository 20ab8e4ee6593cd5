// Any bytes as a shard of a collection, or as the header of a shadow model; the first byte says what.
//
//   collection_fuzzer -max_total_time=60 -rss_limit_mb=1024 NEW_CORPUS fuzz/corpus/collection
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "format/safetensors.h"
#include "predict/gzip.h"
#include "predict/routing_data.h"
#include "predict/shadow_format.h"

namespace odmoe {
namespace {

constexpr uint64_t kMostUnpacked = 1 << 22;

void must(bool holds) {
  if (!holds) std::abort();
}

template <typename T>
bool one_line(const Result<T>& result) {
  if (result.has_value()) return true;
  must(!result.error().message.empty() && result.error().message.find('\n') == std::string::npos);
  return false;
}

Collection tiny() {
  Collection collection;
  collection.model.fingerprint = "0";
  collection.model.n_embd = 2;
  collection.model.n_expert = 4;
  collection.model.n_expert_used = 1;
  collection.model.layers = {0, 1};
  return collection;
}

void shard(std::span<const std::byte> bytes) {
  const Collection collection = tiny();
  const auto shard = parse_shard(bytes, collection, "fuzz");
  if (!one_line(shard)) return;
  const auto n = static_cast<size_t>(shard->n_token);
  must(shard->token.size() == n && shard->experts.size() == 2 * n && shard->router_input.size() == 4 * n);
  for (const uint16_t expert : shard->experts) must(expert < 4);
  if (n > 0) must(serialise_shard(*shard, collection).has_value());
}

void fuzz(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const auto what = std::to_integer<int>(bytes.front()) % 4;
  bytes = bytes.subspan(1);
  if (what == 0) {
    const auto collection =
        parse_collection({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, "fuzz");
    if (one_line(collection)) must(!collection->model.layers.empty() && collection->n_token >= 0);
  } else if (what == 1) {
    shard(bytes);
  } else if (what == 2) {
    const auto unpacked = gunzip(bytes, kMostUnpacked, "fuzz");
    if (one_line(unpacked)) {
      must(unpacked->size() <= kMostUnpacked);
      shard(*unpacked);
    }
  } else {
    // As if the data followed, however much it is.
    const auto file = parse_safetensors_header(bytes, uint64_t{1} << 40U, "fuzz");
    if (!one_line(file)) return;
    const auto spec = read_shadow_spec(*file);
    if (one_line(spec)) must(shadow_tensors(*spec).size() == file->tensors().size());
  }
}

}  // namespace
}  // namespace odmoe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  odmoe::fuzz(std::as_bytes(std::span(data, size)));
  return 0;
}
