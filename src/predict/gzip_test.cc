#include "predict/gzip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace odmoe {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> sample(size_t n) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * i % 251);
  return bytes;
}

TEST(Gzip, GivesBackWhatItPacked) {
  for (const size_t n : {size_t{0}, size_t{1}, size_t{3'000'000}}) {
    const auto bytes = gunzip(gzip(sample(n)), n, "x.gz");
    ASSERT_TRUE(bytes.has_value()) << bytes.error().message;
    EXPECT_TRUE(*bytes == sample(n)) << n;
  }
}

TEST(Gzip, SaysWhatIsWrongWithDamagedData) {
  std::vector<std::byte> packed = gzip(sample(1000));
  const auto refused = [](std::span<const std::byte> bytes, const char* what, uint64_t most = 1000) {
    const auto result = gunzip(bytes, most, "x.gz");
    ASSERT_FALSE(result.has_value()) << what;
    EXPECT_EQ(result.error().kind, ErrorKind::kBadFile);
    EXPECT_THAT(result.error().message, HasSubstr("x.gz"));
    EXPECT_THAT(result.error().message, HasSubstr(what));
  };
  refused(std::span(packed).first(packed.size() - 1), "truncated");
  refused({}, "truncated");
  refused(packed, "more than the 999 bytes", 999);
  packed[packed.size() / 2] ^= std::byte{0xFF};
  refused(packed, "damaged");
}

}  // namespace
}  // namespace odmoe
