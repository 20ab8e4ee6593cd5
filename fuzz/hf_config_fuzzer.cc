// Any bytes as config.json, tokenizer.json or tiktoken.model of a checkpoint of Hugging Face; the first byte
// tells which.
//
//   hf_config_fuzzer -max_total_time=60 -rss_limit_mb=1024 NEW_CORPUS fuzz/corpus/hf_config
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "convert/hf_model.h"
#include "convert/hf_tokenizer.h"
#include "gguf_exercise.h"

namespace odmoe {
namespace {

void fuzz_config(std::string_view text) {
  auto json = parse_json_object(text, "fuzz");
  testing::exercise_result(json);
  if (!json.has_value()) return;
  const HfConfig config(*std::move(json), "fuzz");
  for (const auto& [key, value] : config.json().items()) {
    testing::exercise_result(config.number_or(key, 0));
    testing::exercise_result(config.boolean_or(key, false));
    testing::exercise_result(config.string_or(key, ""));
    testing::exercise_result(config.integer_or(key, 0, -5, 5));
    testing::exercise_result(config.object_or_none(key));
  }
  const auto of_text = text_config(config);
  testing::exercise_result(of_text);
  if (of_text.has_value()) testing::exercise_result(HfQuantisation::parse(*of_text));
}

void check(const Result<HfVocabulary>& v) {
  testing::exercise_result(v);
  if (v.has_value()) testing::must(v->tokens.size() == v->types.size(), "every token has a type");
}

void fuzz(std::string_view text) {
  if (text.empty()) return;
  const char which = text[0];
  text.remove_prefix(1);
  if (which == 'c') return fuzz_config(text);
  if (which == 'm') return check(parse_tiktoken(text, nlohmann::json::object(), 1000, "fuzz"));
  if (which != 't') return;
  const auto json = parse_json_object(text, "fuzz");
  testing::exercise_result(json);
  if (!json.has_value()) return;
  check(parse_hf_tokenizer(*json, "fuzz"));
  check(parse_tiktoken("YQ== 0\nYg== 1\nYWI= 2\n", *json, 1000, "fuzz"));
}

}  // namespace
}  // namespace odmoe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  odmoe::fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
