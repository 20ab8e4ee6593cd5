#include "server/chunked_body.h"

#include <gtest/gtest.h>

#include <limits>

#include "server/limits.h"

namespace odmoe::server {
namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();

struct Taken {
  int status = 0;  // 0: taken, 1: it is not whole
  std::string data;
  size_t used = 0;
};

// As it comes in pieces of so many bytes.
Taken take(std::string_view bytes, size_t piece = kAll, size_t max_bytes = kAll) {
  Taken taken;
  ChunkedBody body;
  while (taken.used < bytes.size() && !body.done()) {
    const auto used = body.take(bytes.substr(taken.used, piece), taken.data, max_bytes);
    if (!used.has_value()) {
      taken.status = used.error().status;
      return taken;
    }
    taken.used += *used;
  }
  taken.status = body.done() ? 0 : 1;
  return taken;
}

TEST(ChunkedBody, IsTheSameHoweverItsBytesCome) {
  const std::string body = "5\r\nhello\r\n00a;name=\"x\"\r\n, you\r\n\r\n!\r\n0\r\nTrailer: 1\r\n\r\nGET ";
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{3}, size_t{7}, kAll}) {
    const Taken taken = take(body, piece);
    EXPECT_EQ(taken.status, 0) << piece;
    EXPECT_EQ(taken.data, "hello, you\r\n\r\n!");
    EXPECT_EQ(taken.used, body.size() - 4);  // the next request is none of its business
  }
}

TEST(ChunkedBody, WhatIsWrittenInAnotherWayIsRefused) {
  for (const char* bad :
       {"\r\n", " 5\r\nhello\r\n", "+5\r\nhello\r\n", "-1\r\n", "0x5\r\nhello\r\n", "5 \r\nhello\r\n",
        "5\nhello\r\n", "5\r\nhello\n", "5\r\nhelloX", "5\r\nhello\r0", "g\r\n", ";x\r\n", "5\rhello",
        "11111111111111111\r\n", "00000000000000005\r\nhello\r\n", "5;\x01\r\nhello\r\n",
        "0\r\nTrailer: 1\n\r\n", "0\r\n\rx", "5;a\nb\r\n"}) {
    EXPECT_EQ(take(bad).status, 400) << bad;
  }
  EXPECT_EQ(take(std::string("1;").append(kMaxChunkExtensionBytes + 1, 'x').append("\r\n")).status, 400);
  EXPECT_EQ(take(std::string("0\r\nT: ").append(kMaxTrailerBytes, 'x').append("\r\n\r\n")).status, 400);
}

TEST(ChunkedBody, ASizeThatIsTooLargeIsRefusedBeforeItComes) {
  EXPECT_EQ(take("5\r\nhello\r\n0\r\n\r\n", kAll, 5).status, 0);
  EXPECT_EQ(take("5\r\nhello\r\n1\r\nx\r\n0\r\n\r\n", kAll, 5).status, 413);
  for (const char* size : {"6", "ffffffffffffffff", "8000000000000000", "fffffffffffffffe"}) {
    const Taken taken = take(std::string(size) + "\r\nx", kAll, 5);
    EXPECT_EQ(taken.status, 413) << size;
    EXPECT_TRUE(taken.data.empty());
  }
  // Nor can two sizes that overflow together pass.
  EXPECT_EQ(take("1\r\nx\r\nffffffffffffffff\r\nx", kAll, kAll).status, 413);
}

TEST(ChunkedBody, WhatEndsEarlyIsNotDone) {
  for (const char* cut : {"5", "5\r", "5\r\n", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "0\r\n", "0\r\n\r",
                          "0\r\nT: 1\r\n"}) {
    EXPECT_EQ(take(cut).status, 1) << cut;
  }
}

}  // namespace
}  // namespace odmoe::server
