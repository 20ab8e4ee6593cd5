#include "base/nfc.h"

#include <gtest/gtest.h>

#include <string>

namespace odmoe {
namespace {

TEST(Nfc, LeavesWhatIsComposedAlone) {
  for (const char* text : {"", "plain", "caf\u00e9", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u6f22\u5b57",
                           "\ud55c\uad6d\uc5b4", "\u0e2a\u0e27\u0e31\u0e2a", "x\u0316\u0301"}) {
    EXPECT_FALSE(compose_nfc(text).has_value()) << text;
  }
  EXPECT_TRUE(is_surely_nfc("caf\u00e9 \u6f22 \ud55c \xFF"));
  for (const char* text : {"e\u0301", "\u0958", "x\u0301\u0316", "\u1112\u1161"})
    EXPECT_FALSE(is_surely_nfc(text));
}

TEST(Nfc, ComposesLettersAndTheirMarks) {
  EXPECT_EQ(compose_nfc("cafe\u0301!"), "caf\u00e9!");
  EXPECT_EQ(compose_nfc("A\u030a"), "\u00c5");
  EXPECT_EQ(compose_nfc("\u212b"), "\u00c5");                // the sign for a length is the letter
  EXPECT_EQ(compose_nfc("u\u0308\u0304"), "\u01d6");         // twice
  EXPECT_EQ(compose_nfc("q\u0307\u0323"), "q\u0323\u0307");  // the lower mark goes first
  EXPECT_EQ(compose_nfc("d\u0307\u0323"), "\u1e0d\u0307");   // and is the one that composes
  EXPECT_EQ(compose_nfc("\u0301e\u0301"), "\u0301\u00e9");   // a mark on nothing stays
  EXPECT_EQ(compose_nfc("e\u034f\u0301"), std::nullopt);     // what joins graphemes stands between
}

TEST(Nfc, WhatIsNeverComposedIsTakenApart) {
  EXPECT_EQ(compose_nfc("\u0958"), "\u0915\u093c");
  EXPECT_EQ(compose_nfc("\ufb1d"), "\u05d9\u05b4");
  EXPECT_EQ(compose_nfc("\u0344"), "\u0308\u0301");
}

TEST(Nfc, ComposesHangul) {
  EXPECT_EQ(compose_nfc("\u1112\u1161\u11ab\u1100\u116e\u11a8"), "\ud55c\uad6d");
  EXPECT_EQ(compose_nfc("\uac00\u11a8"), "\uac01");
  EXPECT_EQ(compose_nfc("\u11a8\u1161"), std::nullopt);  // nothing to begin with
}

TEST(Nfc, BytesThatAreNotUtf8StayAndKeepApart) {
  EXPECT_EQ(compose_nfc("e\xff\u0301 e\u0301\xc3"), "e\xff\u0301 \u00e9\xc3");
}

// A sort of everything, or a search from each mark, would take minutes.
TEST(Nfc, AMillionMarksAreOrdinaryWork) {
  std::string marks = "a";
  for (int i = 0; i < 1 << 19; ++i) marks += "\u0301\u0316";
  std::string sorted = "\u00e1";
  for (int i = 0; i < 1 << 19; ++i) sorted += "\u0316";
  for (int i = 1; i < 1 << 19; ++i) sorted += "\u0301";
  EXPECT_TRUE(compose_nfc(marks) == sorted);
}

}  // namespace
}  // namespace odmoe
