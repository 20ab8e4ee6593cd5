// Any bytes as a listing of the hub's, as a manifest of Ollama's, and as names of both.
//
//   hub_fuzzer -max_total_time=60 -rss_limit_mb=2048 NEW_CORPUS fuzz/corpus/hub
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "gguf_exercise.h"
#include "hub/choice.h"
#include "hub/listing.h"
#include "hub/names.h"
#include "hub/ollama.h"
#include "hub/quantisation.h"

namespace {

using namespace odmoe;
using namespace odmoe::hub;
using testing::must;

// Whatever is joined to a folder stays below it.
void stays_below(std::string_view path) {
  const std::filesystem::path root = "/root/of/all";
  const std::filesystem::path place = (root / path).lexically_normal();
  must(place.string().starts_with(root.string() + "/"), "a name stays below its folder");
}

void listing(std::string_view text) {
  const auto parsed = parse_listing(text, "o/r");
  testing::exercise_result(parsed);
  if (!parsed.has_value()) return;
  must(is_hex(parsed->commit, 40), "a commit is a hash");
  for (const ListedFile& file : parsed->files) {
    stays_below(file.path);
    must(file.content_id.empty() || is_hex(file.content_id, 64) || is_hex(file.content_id, 40),
         "a blob is a hash");
  }
  for (const Candidate& candidate : candidates(*parsed)) {
    must(!candidate.files.empty() && candidate.files.size() <= static_cast<size_t>(candidate.n_file),
         "a set has no more files than it says");
  }
  for (const char* name : {"o/r", "o/r:Q4_K_M", "o/r/m-00001-of-00002.gguf"}) {
    testing::exercise_result(choose(*parsed, *parse_repo_name(name), "hf:o/r"));
  }
}

void manifest(std::string_view text) {
  const auto parsed = parse_ollama_manifest(text);
  testing::exercise_result(parsed);
  if (!parsed.has_value()) return;
  must(is_hex(parsed->model, 64) != is_hex(parsed->manifest, 64), "a manifest leads to one blob");
}

void names(std::string_view text) {
  const auto repo = parse_repo_name(text);
  testing::exercise_result(repo);
  if (repo.has_value()) {
    stays_below(repo->id());
    stays_below(repo->revision);
    if (!repo->file.empty()) stays_below(repo->file);
  }
  const auto model = parse_ollama_name(text);
  testing::exercise_result(model);
  if (model.has_value()) {
    stays_below(model->host + "/" + model->space + "/" + model->model + "/" + model->tag);
    must(parse_ollama_name(model->shown()).has_value(), "a name that is shown is one");
  }
  (void)quantisation_of(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
    case 1:
      listing(text);
      break;
    case 2:
      manifest(text);
      break;
    default:
      names(text);
  }
  return 0;
}
