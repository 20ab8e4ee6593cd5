#include "base/numbers.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <charconv>
#include <cstdint>
#include <random>
#include <string>

#include "odmoe/format.h"

namespace odmoe {
namespace {

TEST(Numbers, EndWhereTheNumberEnds) {
  const auto expect = [](std::string_view text, double value, size_t size) {
    const auto parsed = parse_double(text);
    ASSERT_TRUE(parsed.has_value()) << text;
    EXPECT_EQ(parsed->value, value) << text;
    EXPECT_EQ(parsed->size, size) << text;
  };
  expect("8GiB", 8, 1);
  expect("1.5e3x", 1500, 5);
  expect("1e", 1, 1);
  expect("1e+", 1, 1);
  expect("1E-2", 0.01, 4);
  expect("-.5", -0.5, 3);
  expect("5.", 5, 2);
  expect("1.2.3", 1.2, 3);
  expect("0x10", 0, 1);
  expect("123456789012345678901234567890", 123456789012345678901234567890.0, 30);
}

TEST(Numbers, WhatIsNoneIsNothing) {
  for (const char* text : {"", "-", ".", "-.", "x", " 1", "+1", "e5", "inf", "nan", "--1", "1e999", "-1e999"})
    EXPECT_FALSE(parse_double(text).has_value()) << text;
  EXPECT_FALSE(parse_float("1e39").has_value());
}

#ifdef __cpp_lib_to_chars
template <typename T>
void expect_as_from_chars(const std::string& text, const std::optional<ParsedNumber<T>>& parsed) {
  T wanted = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), wanted);
  ASSERT_EQ(error, std::errc()) << text;
  ASSERT_TRUE(parsed.has_value()) << text;
  EXPECT_EQ(parsed->value, wanted) << text;
  EXPECT_EQ(parsed->size, static_cast<size_t>(end - text.data())) << text;
}

TEST(Numbers, AreRoundedAsFromCharsDoes) {
  std::mt19937_64 random(1);
  const auto upto = [&](uint64_t n) { return random() % n; };
  for (int i = 0; i < 20'000; ++i) {
    const std::string sign = upto(4) == 0 ? "-" : "";
    std::string fraction = std::to_string(random());
    fraction.resize(std::min<size_t>(fraction.size(), upto(20)));
    std::string text = odmoe::format("{}{}.{}", sign, random() >> upto(64), fraction);
    expect_as_from_chars(text, parse_double(text));
    expect_as_from_chars(text, parse_float(text));
    text += odmoe::format("e{}", static_cast<int>(upto(40)) - 30);
    expect_as_from_chars(text, parse_double(text));
  }
}
#endif

}  // namespace
}  // namespace odmoe
