#include "base/file_descriptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace odmoe {
namespace {

bool is_open(int number) { return ::fcntl(number, F_GETFD) != -1; }

FileDescriptor open_null() { return FileDescriptor::open("/dev/null", O_RDONLY); }

TEST(FileDescriptor, IsClosedWithItsOwner) {
  int number = -1;
  {
    const FileDescriptor file = open_null();
    ASSERT_TRUE(file);
    number = file.number();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(FileDescriptor, GoesToAnotherOwner) {
  FileDescriptor first = open_null();
  const int number = first.number();
  FileDescriptor second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): what is left is promised
  EXPECT_EQ(second.number(), number);

  FileDescriptor third = open_null();
  const int given_up = third.number();
  third = std::move(second);
  EXPECT_EQ(third.number(), number);
  EXPECT_TRUE(is_open(number));
  EXPECT_FALSE(is_open(given_up));
}

TEST(FileDescriptor, IsNotInheritedByPrograms) {
  EXPECT_NE(::fcntl(open_null().number(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(FileDescriptor, IsNoneWhereNothingCanBeOpened) {
  const FileDescriptor none = FileDescriptor::open("/nowhere/at/all", O_RDONLY);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_FALSE(none);
  EXPECT_EQ(none.number(), -1);
}

TEST(FileDescriptor, TellsWhetherClosingSucceeded) {
  FileDescriptor file = open_null();
  EXPECT_TRUE(file.close());
  EXPECT_FALSE(file);
  EXPECT_TRUE(file.close()) << "there is none to close";

  FileDescriptor twice = open_null();
  ::close(twice.number());
  EXPECT_FALSE(twice.close());
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
}  // namespace odmoe
