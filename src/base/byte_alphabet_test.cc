#include "base/byte_alphabet.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace odmoe {
namespace {

TEST(ByteAlphabet, IsGpt2sAlphabet) {
  EXPECT_EQ(byte_to_code_point('A'), 'A');
  EXPECT_EQ(byte_to_code_point(0x00), 0x100);
  EXPECT_EQ(byte_to_code_point('\n'), 0x10A);  // Ċ
  EXPECT_EQ(byte_to_code_point(' '), 0x120);   // Ġ
  EXPECT_EQ(byte_to_code_point(0x7F), 0x121);
  EXPECT_EQ(byte_to_code_point(0xA0), 0x142);
  EXPECT_EQ(byte_to_code_point(0xAD), 0x143);  // the last one that is moved
  EXPECT_EQ(byte_to_code_point(0xFF), 0xFF);
}

TEST(ByteAlphabet, EveryByteHasItsOwnCharacter) {
  std::set<uint32_t> code_points;
  for (int byte = 0; byte < 256; ++byte) code_points.insert(byte_to_code_point(static_cast<uint8_t>(byte)));
  EXPECT_EQ(code_points.size(), 256);
}

TEST(ByteAlphabet, SpellsAnyBytesAndReadsThemBack) {
  EXPECT_EQ(to_byte_alphabet(" the\n"), "ĠtheĊ");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  EXPECT_EQ(decode_byte_alphabet(to_byte_alphabet(all)), all);
}

TEST(ByteAlphabet, DecodesWordsAndRefusesOtherCharacters) {
  EXPECT_EQ(decode_byte_alphabet(""), "");
  EXPECT_EQ(decode_byte_alphabet("ĠtheĊ"), " the\n");
  EXPECT_EQ(decode_byte_alphabet("Ã©"), "\xC3\xA9");
  EXPECT_FALSE(decode_byte_alphabet("a b").has_value());  // the space has another character
  EXPECT_FALSE(decode_byte_alphabet("<｜User｜>").has_value());
  EXPECT_FALSE(decode_byte_alphabet("\xFF").has_value());
  EXPECT_FALSE(decode_byte_alphabet("\xC4").has_value());
}

}  // namespace
}  // namespace odmoe
