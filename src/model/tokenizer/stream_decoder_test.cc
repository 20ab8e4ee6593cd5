#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>

#include "model/tokenizer/testing_vocabulary.h"
#include "model/tokenizer/tokenizer.h"

namespace odmoe {
namespace {

// Token id = byte, and one control token.
std::unique_ptr<Tokenizer> bytes_tokenizer() {
  TestVocabulary vocabulary;
  vocabulary.add("<|im_end|>", 3);
  const auto file = parse_gguf(vocabulary.writer());
  EXPECT_TRUE(file.has_value());
  Account account(**file);
  auto tokenizer = Tokenizer::create(account);
  EXPECT_TRUE(tokenizer.has_value());
  return std::move(*tokenizer);
}

// What came out after each byte, with '|' between, and behind '#' what was left at the end.
std::string stream(std::string_view bytes) {
  const auto tokenizer = bytes_tokenizer();
  StreamDecoder decoder(*tokenizer);
  std::string out;
  for (const char byte : bytes) out += decoder.push(static_cast<uint8_t>(byte)) + "|";
  return out + "#" + decoder.finish();
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsComplete) {
  EXPECT_EQ(stream("a\xC3\xA9\xF0\x9F\x9A\x80z"), "a||é||||🚀|z|#");
}

TEST(StreamDecoder, AnUnfinishedCharacterAtTheEndIsReplacedOnce) {
  EXPECT_EQ(stream("a\xF0\x9F\x9A"), "a||||#\uFFFD");
  EXPECT_EQ(stream("a"), "a|#");
}

TEST(StreamDecoder, BytesThatCannotBecomeACharacterAreReplacedAtOnce) {
  EXPECT_EQ(stream("\xFF\x80z"), "\uFFFD|\uFFFD|z|#");
  EXPECT_EQ(stream("\xE2\x82z"), "||\uFFFDz|#");
  EXPECT_EQ(stream("\xE2\xE2\x82\xAC"), "|\uFFFD||€|#");
}

TEST(StreamDecoder, ControlTokensAreShownOnlyWhenAskedFor) {
  const auto tokenizer = bytes_tokenizer();
  StreamDecoder hidden(*tokenizer);
  EXPECT_EQ(hidden.push(256), "");
  StreamDecoder shown(*tokenizer, true);
  EXPECT_EQ(shown.push(256), "<|im_end|>");
}

TEST(StreamDecoder, CanGoOnAfterFinish) {
  const auto tokenizer = bytes_tokenizer();
  StreamDecoder decoder(*tokenizer);
  decoder.push(0xC3);
  EXPECT_EQ(decoder.finish(), "\uFFFD");
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.finish(), "");
}

}  // namespace
}  // namespace odmoe
