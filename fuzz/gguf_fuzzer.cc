// Any bytes as a GGUF: the header, every accessor, the experts and the tokenizer.
//
//   gguf_fuzzer -max_total_time=60 -rss_limit_mb=1024 -dict=fuzz/gguf.dict NEW_CORPUS fuzz/corpus/gguf
#include <cstddef>
#include <cstdint>
#include <span>

#include "gguf_exercise.h"
#include "model/tokenizer/tokenizer.h"

namespace odmoe {
namespace {

void exercise_tokenizer(const GgufFile& file) {
  Account account(file);
  const auto tokenizer = Tokenizer::create(account);
  testing::exercise_result(tokenizer);
  if (!tokenizer.has_value()) return;
  constexpr std::string_view kText = "Hello, 世界! \xff 123abc\n\n  <|im_end|> e\u0301 \u2581\u2581</s> x";
  constexpr ChatText::Range kSaid[] = {{.begin = 3, .end = 40}};
  for (const bool parse : {false, true}) {
    const auto tokens = (*tokenizer)->encode(kText, {.parse_special = parse, .said = kSaid});
    for (const Token token : tokens) {
      testing::must(token >= 0 && token < (*tokenizer)->n_vocab(), "tokens are of the vocabulary");
      (*tokenizer)->is_end(token);
    }
    (*tokenizer)->decode(tokens, true);
  }
}

void fuzz(std::span<const std::byte> bytes) {
  // The header alone is given where the real file's data would follow: half of the space is spent on
  // what is inside a file that is long enough.
  for (const uint64_t file_bytes : {static_cast<uint64_t>(bytes.size()), uint64_t{1} << 40U}) {
    const auto file = GgufFile::parse(bytes, file_bytes);
    testing::exercise_result(file);
    if (!file.has_value()) continue;
    testing::exercise(**file);
    exercise_tokenizer(**file);
  }
}

}  // namespace
}  // namespace odmoe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  odmoe::fuzz({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
