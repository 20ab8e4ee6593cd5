#include "cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Progress, LineShowsLabelShareAndDetail) {
  const std::string line = Progress::line("Reading", 0.5, "1 of 2", 79);
  EXPECT_THAT(line, HasSubstr("Reading "));
  EXPECT_THAT(line, HasSubstr(" 50 % "));
  EXPECT_THAT(line, HasSubstr("1 of 2"));
  EXPECT_THAT(line, Not(HasSubstr("\n")));
}

TEST(Progress, BarGrowsWithTheShare) {
  const auto blocks = [](double fraction) {
    const std::string line = Progress::line("", fraction, "", 60);
    int count = 0;
    for (size_t at = 0; (at = line.find("█", at)) != std::string::npos; at += 3) ++count;
    return count;
  };
  EXPECT_EQ(blocks(0), 0);
  EXPECT_EQ(blocks(0.5), 15);
  EXPECT_EQ(blocks(1), 30);
  EXPECT_EQ(blocks(7), 30);
}

TEST(Progress, TheBarGivesWayToWhatIsBesideIt) {
  const std::string detail = "19.8 MiB of 20.0 MiB, 2.41 MiB/s, 0:02 left";
  EXPECT_THAT(Progress::line("Downloading", 0.5, detail, 79), HasSubstr(detail));
}

TEST(Progress, IsSilentWhereStandardErrorIsNoTerminal) {
  class Later final : public Clock {
   public:
    int64_t now_us() const override { return now_ += 10'000'000; }
    mutable int64_t now_ = 0;
  } clock;
  ::testing::internal::CaptureStderr();
  {
    Progress progress("Reading", clock);
    progress.update(0.5);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace odmoe::cli
