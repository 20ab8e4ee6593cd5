#include "base/transfer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/file_descriptor.h"

namespace odmoe {
namespace {

std::span<const std::byte> file_bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// A file without a name that has `text` in it.
FileDescriptor file_with(std::string_view text) {
  std::string name = (std::filesystem::temp_directory_path() / "odmoe-XXXXXX").string();
  FileDescriptor file(::mkstemp(name.data()));
  ::unlink(name.c_str());
  EXPECT_TRUE(write_exactly(file.number(), file_bytes_of(text)).has_value());
  return file;
}

TEST(Transfer, ReadsFromAnyPlace) {
  const FileDescriptor file = file_with("0123456789");
  std::string read(4, ' ');
  ASSERT_TRUE(read_exactly(file.number(), 3, std::as_writable_bytes(std::span(read))).has_value());
  EXPECT_EQ(read, "3456");
  EXPECT_TRUE(read_exactly(file.number(), 99, {}).has_value()) << "of nothing there is enough anywhere";
}

TEST(Transfer, SaysWhereAFileEnds) {
  const FileDescriptor file = file_with("0123456789");
  std::string read(4, ' ');
  const auto outcome = read_exactly(file.number(), 8, std::as_writable_bytes(std::span(read)));
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().bytes, 2U);
  EXPECT_EQ(outcome.error().error, 0);
  EXPECT_EQ(read_some(file.number(), 10, std::as_writable_bytes(std::span(read))), 0);
}

TEST(Transfer, SaysWhyItFailed) {
  std::array<std::byte, 1> byte{};
  const auto read = read_exactly(-1, 0, byte);
  const auto written = write_exactly(-1, byte);
  ASSERT_FALSE(read.has_value());
  ASSERT_FALSE(written.has_value());
  EXPECT_EQ(read.error().error, EBADF);
  EXPECT_EQ(written.error().error, EBADF);
  EXPECT_EQ(read_some(-1, 0, byte), -EBADF);
}

TEST(Transfer, WritesGoOnUntilAllIsWritten) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
  const FileDescriptor ours(ends[0]);
  FileDescriptor theirs(ends[1]);
  const std::string sent(4 << 20, 'x');  // more than any buffer between the two
  std::string got;
  std::thread reader([&] {
    std::vector<char> block(1 << 16);
    for (ssize_t n = 0; (n = ::read(ours.number(), block.data(), block.size())) > 0;)
      got.append(block.data(), static_cast<size_t>(n));
  });
  EXPECT_TRUE(write_exactly(theirs.number(), file_bytes_of(sent)).has_value());
  theirs.close();
  reader.join();
  EXPECT_EQ(got, sent);
}

}  // namespace
}  // namespace odmoe
