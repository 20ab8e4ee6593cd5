// Writes the seeds in corpus/gguf anew: make_gguf_seeds DIRECTORY
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "small_model.h"

using odmoe::testing::GgufWriter;
using odmoe::testing::small_model;

// Without the data: the fuzzer claims a long file for it.
static void write_header(const GgufWriter& writer, const std::filesystem::path& path) {
  writer.write(path);
  std::filesystem::resize_file(path, writer.header_bytes());
}

// A vocabulary of SentencePiece, or one that writes its tokens so and merges by rank.
static GgufWriter lower_block_vocabulary(bool merges) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "\u2581", "l", "o", "lo", "\u2581x", "\n\n"};
  std::vector<int32_t> kinds = {2, 3, 3, 1, 1, 1, 1, 1, 4};
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (size_t byte = 0; byte < 256; ++byte) {
    tokens.push_back(std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">");
    kinds.push_back(6);
  }
  std::vector<float> scores;
  for (size_t i = 0; i < tokens.size(); ++i) scores.push_back(-static_cast<float>(i));
  GgufWriter gguf;
  gguf.set("general.architecture", "phimoe")
      .set("tokenizer.ggml.model", merges ? "gemma4" : "llama")
      .set("tokenizer.ggml.bos_token_id", 1U)
      .set("tokenizer.ggml.add_space_prefix", true)
      .set("tokenizer.ggml.normalizer.nfc", true)
      .set_array("tokenizer.ggml.tokens", tokens)
      .set_array("tokenizer.ggml.token_type", kinds);
  if (merges) {
    gguf.set_array("tokenizer.ggml.merges", std::vector<std::string>{"l o"});
  } else {
    gguf.set_array("tokenizer.ggml.scores", scores);
  }
  return gguf;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_gguf_seeds DIRECTORY\n");
    return 2;
  }
  const std::filesystem::path directory = argv[1];
  std::filesystem::create_directories(directory);
  write_header(small_model({.n_layer = 2, .n_expert = 2}), directory / "model_v3.gguf");
  write_header(small_model({.version = 2, .n_layer = 2, .n_expert = 2, .merge_gate_up = true}),
               directory / "model_v2.gguf");
  write_header(small_model({.n_layer = 2, .n_expert = 2}).split(2)[0], directory / "first_of_two.gguf");
  write_header(small_model({.n_layer = 2, .n_expert = 2}).split(2)[1], directory / "second_of_two.gguf");
  write_header(small_model({.n_layer = 2, .n_expert = 2, .all_bytes = true}), directory / "tokenizer.gguf");
  lower_block_vocabulary(false).write(directory / "spm.gguf");
  lower_block_vocabulary(true).write(directory / "gemma4.gguf");
  GgufWriter()
      .set_alignment(64)
      .add_tensor("a", GGML_TYPE_Q4_K, {256, 2})
      .add_tensor("b", GGML_TYPE_F32, {})
      .write(directory / "aligned.gguf");
  GgufWriter values;
  values.set("u8", uint8_t{255}).set("i8", int8_t{-1}).set("u16", uint16_t{1}).set("i16", int16_t{-1});
  values.set("u32", 1U).set("i32", -1).set("u64", ~uint64_t{0}).set("i64", int64_t{-1});
  values.set("f32", 0.5F).set("f64", 0.25).set("bool", true).set("str", "text\n\x1b");
  values.set_array("strs", std::vector<std::string>{"", "a", "\xff"})
      .set_array("ints", std::vector<int64_t>{1, -1});
  values.set_array("floats", std::vector<double>{1e300, 0}).set_array("none", std::vector<uint16_t>{});
  values.write(directory / "every_type.gguf");
  return 0;
}
