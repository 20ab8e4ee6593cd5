// Metadata of small vocabularies for the tests of this folder.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/byte_alphabet.h"
#include "format/gguf_file.h"
#include "gguf_writer.h"
#include "model/tokenizer/tokenizer.h"

namespace odmoe {

// 256 byte tokens (token id = byte) and then what a test adds.
struct TestVocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> kinds;
  std::vector<std::string> merges;

  TestVocabulary() {
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      tokens.push_back(to_byte_alphabet(std::string_view(&c, 1)));
      kinds.push_back(1);
    }
  }
  // Returns the new token's id.  `text` as the file has it.
  int32_t add(std::string_view text, int32_t kind = 1) {
    tokens.emplace_back(text);
    kinds.push_back(kind);
    return static_cast<int32_t>(tokens.size()) - 1;
  }
  int32_t add_merge(std::string_view left, std::string_view right) {
    merges.push_back(std::string(left) + " " + std::string(right));
    return add(std::string(left) + std::string(right));
  }
  testing::GgufWriter writer(std::string_view rule = "qwen2") const {
    testing::GgufWriter gguf;
    gguf.set("general.architecture", "test")
        .set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", rule)
        .set_array("tokenizer.ggml.tokens", tokens)
        .set_array("tokenizer.ggml.token_type", kinds)
        .set_array("tokenizer.ggml.merges", merges);
    return gguf;
  }
};

// SentencePiece's: <unk>, <s>, </s>, 256 byte tokens (token id = 3 + byte), and then what a test adds.
struct SpmVocabulary {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> kinds = {2, 3, 3};
  std::vector<float> scores = {0, 0, 0};

  SpmVocabulary() {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    for (size_t byte = 0; byte < 256; ++byte)
      add(std::string("<0x") + kDigits[byte >> 4] + kDigits[byte & 15] + ">", 0, 6);
  }
  // Returns the new token's id.  `text` as the file has it.
  int32_t add(std::string_view text, float score, int32_t kind = 1) {
    tokens.emplace_back(text);
    scores.push_back(score);
    kinds.push_back(kind);
    return static_cast<int32_t>(tokens.size()) - 1;
  }
  // Of the model "llama".
  testing::GgufWriter writer() const {
    testing::GgufWriter gguf;
    gguf.set("general.architecture", "test")
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.pre", "default")
        .set_array("tokenizer.ggml.tokens", tokens)
        .set_array("tokenizer.ggml.scores", scores)
        .set_array("tokenizer.ggml.token_type", kinds);
    return gguf;
  }
  // Of another model that writes its tokens so, merged by rank.
  testing::GgufWriter writer(std::string_view model, const std::vector<std::string>& merges) const {
    testing::GgufWriter gguf;
    gguf.set("general.architecture", "test")
        .set("tokenizer.ggml.model", model)
        .set_array("tokenizer.ggml.tokens", tokens)
        .set_array("tokenizer.ggml.token_type", kinds)
        .set_array("tokenizer.ggml.merges", merges)
        .set("tokenizer.ggml.bos_token_id", uint32_t{1});
    return gguf;
  }
};

inline Result<std::unique_ptr<GgufFile>> parse_gguf(const testing::GgufWriter& gguf) {
  const std::vector<std::byte> bytes = gguf.bytes();
  return GgufFile::parse(bytes, bytes.size());
}

// Kinds of tokens as files number them.
inline constexpr int32_t kControl = 3, kUserDefined = 4;

inline Result<std::unique_ptr<Tokenizer>> try_create(const testing::GgufWriter& gguf) {
  ODMOE_ASSIGN_OR_RETURN(const auto file, parse_gguf(gguf));
  Account account(*file);
  return Tokenizer::create(account);
}

inline std::unique_ptr<Tokenizer> create(const testing::GgufWriter& gguf) {
  Result<std::unique_ptr<Tokenizer>> tokenizer = try_create(gguf);
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return std::move(*tokenizer);
}

inline Error error_of(const testing::GgufWriter& gguf) {
  const Result<std::unique_ptr<Tokenizer>> tokenizer = try_create(gguf);
  EXPECT_FALSE(tokenizer.has_value());
  return tokenizer.has_value() ? Error{} : tokenizer.error();
}

// Without what the file adds at the beginning and the end.
inline std::vector<Token> encode(const Tokenizer& tokenizer, std::string_view text,
                                 bool parse_special = false) {
  return tokenizer.encode(text, {.add_special = false, .parse_special = parse_special});
}

}  // namespace odmoe
