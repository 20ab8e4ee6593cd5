// `odmoe tokenize` on vocabularies alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/process.h"
#include "gguf_writer.h"
#include "temp_dir.h"

namespace odmoe::testing::tokenize_cli_test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kVocabulary = ODMOE_SOURCE_DIR "/tests/data/tokenizer/demo-vocabulary.gguf";

std::string tokens_of(const std::vector<std::string>& arguments, const std::string& input = {}) {
  std::vector<std::string> all = {"tokenize", kVocabulary};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const Outcome outcome = odmoe(all, {.input = input});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, IsEmpty());
  return outcome.out;
}

void expect_usage(const std::vector<std::string>& arguments, const std::string& message) {
  std::vector<std::string> all = {"tokenize", kVocabulary};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const Outcome outcome = odmoe(all);
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr(message));
  EXPECT_THAT(outcome.out, IsEmpty());
}

TEST(TokenizeCli, TakesTextFromTheCommandLineAFileOrStandardInputByteForByte) {
  const TempDir dir;
  std::ofstream(dir / "text.txt", std::ios::binary) << "  \n\n \t\r\n  ";
  EXPECT_EQ(tokens_of({"-p", " "}), "220\n");
  EXPECT_EQ(tokens_of({"-p", ""}), "\n");
  EXPECT_EQ(tokens_of({}, "\n"), "198\n");
  EXPECT_EQ(tokens_of({"-f", "-"}, "\n"), "198\n");
  EXPECT_EQ(tokens_of({"-f", (dir / "text.txt").string()}), "220 220 601 220 197 201 198 220 220\n");
}

TEST(TokenizeCli, WritesOneArrayForProgramsAndPiecesForPeople) {
  EXPECT_EQ(nlohmann::json::parse(tokens_of({"-p", "  \n", "--json"})), (std::vector<int>{220, 721}));
  EXPECT_EQ(nlohmann::json::parse(tokens_of({"-p", "", "--json"})), nlohmann::json::array());
  EXPECT_EQ(tokens_of({"-p", "\n<|im_end|>", "--pieces"}), "    198  '\\n'\n   2047  '<|im_end|>'\n");
}

TEST(TokenizeCli, ControlTokensAreParsedUnlessToldNotTo) {
  EXPECT_EQ(tokens_of({"-p", "<|im_end|>"}), "2047\n");
  const std::string spelt = tokens_of({"-p", "<|im_end|>", "--no-parse-special"});
  EXPECT_NE(spelt, "2047\n");
  EXPECT_EQ(tokens_of({"--decode"}, spelt), "<|im_end|>");
}

TEST(TokenizeCli, DecodesWhatItWrote) {
  const std::string text = "In the beginning\n<|im_end|> caf\u00e9 \xFF";
  EXPECT_EQ(tokens_of({"--decode"}, tokens_of({}, text)), text);
  EXPECT_EQ(tokens_of({"--decode"}, tokens_of({"--json"}, text)), text);
  EXPECT_EQ(tokens_of({"--decode", "-p", "220, 198"}), " \n");
  EXPECT_EQ(tokens_of({"--decode", "--json", "-p", "220 198"}), "\" \\n\"\n");
  EXPECT_EQ(tokens_of({"--decode", "-p", ""}), "");
}

TEST(TokenizeCli, WhatIsNoTokenIsWrongUsage) {
  expect_usage({"--decode", "-p", "12 x"}, "'x' is not a token id");
  expect_usage({"--decode", "-p", "-1"}, "'-1' is not a token id");
  expect_usage({"--decode", "-p", "99999999999"}, "is not a token id");
  expect_usage({"--decode", "-p", "2048"}, "token 2048 is beyond the vocabulary, which has 2048");
  expect_usage({"-p", "a", "-f", "b"}, "excludes");
  expect_usage({"--decode", "--add-special", "-p", "1"}, "excludes");
  expect_usage({"--json", "--pieces", "-p", "1"}, "excludes");
}

GgufWriter bytes_only() {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> kinds = {2, 3, 3};
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  for (size_t byte = 0; byte < 256; ++byte) {
    tokens.push_back(std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">");
    kinds.push_back(6);
  }
  GgufWriter gguf;
  gguf.set("general.architecture", "llama")
      .set("tokenizer.ggml.model", "llama")
      .set_array("tokenizer.ggml.tokens", tokens)
      .set_array("tokenizer.ggml.token_type", kinds)
      .set_array("tokenizer.ggml.scores", std::vector<float>(tokens.size(), 0));
  return gguf;
}

TEST(TokenizeCli, BosIsAddedWhenAskedForAndTakenOffWithItsSpace) {
  const TempDir dir;
  const std::string path = (dir / "spm.gguf").string();
  bytes_only().write(path);
  EXPECT_EQ(odmoe({"tokenize", path, "-p", "a"}).out, "35 100\n");
  EXPECT_EQ(odmoe({"tokenize", path, "-p", "a", "--add-special"}).out, "1 35 100\n");
  EXPECT_EQ(odmoe({"tokenize", path, "-p", "35 100", "--decode"}).out, "a");
  EXPECT_EQ(odmoe({"tokenize", path, "-p", "1 35 100", "--decode"}).out, "<s>a");
}

TEST(TokenizeCli, AKeyThatWouldChangeTokensIsRefusedByName) {
  const TempDir dir;
  const std::string path = (dir / "spm.gguf").string();
  bytes_only().set("tokenizer.ggml.remove_extra_whitespaces", true).write(path);
  const Outcome outcome = odmoe({"tokenize", path, "-p", "a"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("tokenizer.ggml.remove_extra_whitespaces"));
  EXPECT_THAT(outcome.out, IsEmpty());
}

TEST(TokenizeCli, AFileWithoutAVocabularyIsAnError) {
  const TempDir dir;
  const std::string path = (dir / "none.gguf").string();
  GgufWriter().set("general.architecture", "llama").write(path);
  const Outcome outcome = odmoe({"tokenize", path, "-p", "a"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("tokenizer.ggml.model"));
}

}  // namespace
}  // namespace odmoe::testing::tokenize_cli_test
