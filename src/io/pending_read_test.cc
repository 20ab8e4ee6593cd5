#include "io/pending_read.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace odmoe {
namespace {

constexpr ReadAlignment kAlignment{.offset_bytes = 512, .memory_bytes = 512};

class PendingReadTest : public ::testing::Test {
 protected:
  std::byte buffer_[8192]{};
  PendingRead read_{.file = 0, .offset = 4096, .bytes = 4096, .needed = 4000, .destination = buffer_};
};

TEST_F(PendingReadTest, IsDoneWhenWhatIsNeededHasArrivedThoughLessThanAsked) {
  EXPECT_EQ(advance(read_, 4000, kAlignment, 3), ReadOutcome::kDone);
}

TEST_F(PendingReadTest, GoesOnBehindTheLastWholeBlockOfAShortResult) {
  EXPECT_EQ(advance(read_, 1500, kAlignment, 3), ReadOutcome::kAgain);
  EXPECT_EQ(read_.offset, 4096U + 1024);
  EXPECT_EQ(read_.bytes, 4096U - 1024);
  EXPECT_EQ(read_.needed, 4000U - 1024);
  EXPECT_EQ(read_.destination, buffer_ + 1024);
  EXPECT_EQ(read_.failures, 0);
  EXPECT_EQ(advance(read_, 2976, kAlignment, 3), ReadOutcome::kDone);
}

TEST_F(PendingReadTest, GivesUpAfterAsManyTriesWithoutProgressAsAllowed) {
  EXPECT_EQ(advance(read_, -EIO, kAlignment, 3), ReadOutcome::kAgain);
  EXPECT_EQ(advance(read_, 100, kAlignment, 3), ReadOutcome::kAgain);
  EXPECT_EQ(advance(read_, -ENODEV, kAlignment, 3), ReadOutcome::kFailed);
  EXPECT_EQ(read_.error, ENODEV);
}

TEST_F(PendingReadTest, TheEndOfTheFileIsToldFromAnError) {
  EXPECT_EQ(advance(read_, 0, kAlignment, 1), ReadOutcome::kFailed);
  EXPECT_EQ(read_.error, 0);
}

}  // namespace
}  // namespace odmoe
