// Any bytes as the model.json and the tokenizer.json of an expert directory.
//
//   model_json_fuzzer -max_total_time=60 -rss_limit_mb=2048 -dict=fuzz/model_json.dict NEW
//   fuzz/corpus/model_json
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "format/expert_manifest.h"
#include "format/gguf_file.h"
#include "format/key_values.h"
#include "gguf_exercise.h"

namespace odmoe {
namespace {

// What was read is written and read again: nothing may be lost on the way.
void exercise_metadata(const std::vector<MetadataEntry>& entries) {
  const auto values = KeyValues::of(entries, "fuzz");
  testing::exercise_result(values);
  if (!values.has_value()) return;
  testing::must(values->entries().size() == entries.size(), "every entry is kept");
  const auto bytes = values->encoded();
  const auto file = GgufFile::parse(bytes, bytes.size());
  testing::exercise_result(file);
  if (file.has_value()) testing::must((*file)->entries().size() == entries.size(), "and written");
}

void fuzz(std::string_view text) {
  const auto tokenizer = parse_tokenizer_json(text, "fuzz");
  testing::exercise_result(tokenizer);
  if (tokenizer.has_value()) exercise_metadata(*tokenizer);

  const auto manifest = ExpertManifest::parse(text, "fuzz");
  testing::exercise_result(manifest);
  if (!manifest.has_value()) return;
  exercise_metadata(manifest->metadata);
  for (const ExpertManifest::Layer& layer : manifest->layers) {
    testing::must(layer.n_expert() > 0, "a layer has experts");
    testing::must(layer.gate_up_bytes() < layer.record_bytes, "a record has both sections");
    testing::must(layer.gate_up_bytes() % manifest->page_bytes == 0, "down begins on a page");
    for (const ExpertManifest::Slice& slice : layer.slices) {
      testing::must(slice.offset + slice.bytes <= layer.record_bytes, "a slice lies in the record");
      testing::must(!slice.repacked || (manifest->repacked && manifest->repacked->find(slice.type, slice.n_in,
                                                                                       slice.matrix_rows())),
                    "what is repacked is said how");
    }
  }
  const auto again = ExpertManifest::parse(manifest->to_json(), "fuzz");
  testing::must(again.has_value(), "what was read can be written and read");
  testing::must(
      again->layers.size() == manifest->layers.size() && again->files.size() == manifest->files.size(),
      "and is the same");
}

}  // namespace
}  // namespace odmoe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  odmoe::fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
