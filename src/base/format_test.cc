#include "odmoe/format.h"

#include <gtest/gtest.h>

#include <string>

namespace odmoe {
namespace {

TEST(Format, WritesWhatStdFormatWrites) {
  const std::string text = "text";
  int n = 7;
  EXPECT_EQ(odmoe::format("{} {:>4} {:.3f} {:#x}", text, n, 1.0 / 3, 255U), "text    7 0.333 0xff");
  EXPECT_EQ(odmoe::format("{1}{0}{{}}", 'a', std::string("b")), "ba{}");
  EXPECT_EQ(odmoe::format("nothing"), "nothing");
}

}  // namespace
}  // namespace odmoe
