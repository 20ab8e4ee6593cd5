#include "base/units.h"

#include <gtest/gtest.h>

namespace odmoe {
namespace {

TEST(Units, BinaryAndDecimalSuffixesAreToldApart) {
  EXPECT_EQ(parse_bytes("8GiB").value(), 8 * kGiB);
  EXPECT_EQ(parse_bytes("8G").value(), 8 * kGiB);
  EXPECT_EQ(parse_bytes("8GB").value(), 8'000'000'000U);
  EXPECT_EQ(parse_bytes("1.5 mib").value(), 3 * kMiB / 2);
  EXPECT_EQ(parse_bytes("4096").value(), 4096U);
}

TEST(Units, NonsenseIsRefusedWithAnExampleOfWhatIsRight) {
  for (const char* text : {"", "GiB", "-1GiB", "8XiB", "8Gi", "1e40G", "nan", "8GiBB"}) {
    const auto result = parse_bytes(text);
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
    EXPECT_NE(result.error().message.find("8GiB"), std::string::npos);
  }
}

TEST(Units, RatesAreSizesEachSecond) {
  EXPECT_EQ(parse_rate("6.5GB/s").value(), 6.5e9);
  EXPECT_EQ(parse_rate("2 GiB/s").value(), 2.0 * kGiB);
  EXPECT_EQ(parse_rate("550MB/s").value(), 550e6);
  EXPECT_EQ(parse_rate("4096B/s").value(), 4096);
  for (const char* text :
       {"", "/s", "6.5", "6.5GB", "GB/s", "-1GB/s", "6.5XB/s", "1e40GB/s", "6.5GB/s/s", "6.5GB/min"}) {
    const auto result = parse_rate(text);
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_EQ(result.error().kind, ErrorKind::kUsage);
    EXPECT_NE(result.error().message.find("6.5GB/s"), std::string::npos);
  }
}

TEST(Units, RatesInBitsAreSaidToBeSome) {
  for (const char* text : {"10Gb/s", "10Gbit/s", "10 Gbps", "100Mbit/s"}) {
    const auto result = parse_rate(text);
    ASSERT_FALSE(result.has_value()) << text;
    EXPECT_NE(result.error().message.find("bits"), std::string::npos) << result.error().message;
  }
}

TEST(Units, SizesAreWrittenWithThreeDigits) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(80 * kGiB), "80.0 GiB");
  EXPECT_EQ(format_bytes(375 * kGiB), "375 GiB");
}

}  // namespace
}  // namespace odmoe
