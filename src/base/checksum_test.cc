#include "base/checksum.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>

namespace odmoe {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Checksum, IsThePublishedXxh3) {
  // Of the reference implementation's own sanity test: no bytes, seed 0.
  EXPECT_EQ(Checksum::of({}), 0x2D06800538D394C2ULL);
}

TEST(Checksum, IsTheSameInPiecesAndAtOnce) {
  std::vector<std::byte> data(100'000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 37 % 251);
  const std::span<const std::byte> all(data);
  Checksum pieces;
  for (size_t at = 0; at < data.size(); at += 777)
    pieces.add(all.subspan(at, std::min<size_t>(777, data.size() - at)));
  EXPECT_EQ(pieces.value(), Checksum::of(all));
  pieces.reset();
  pieces.add(bytes_of("another"));
  EXPECT_EQ(pieces.value(), Checksum::of(bytes_of("another")));
}

TEST(Checksum, ChangesWithEveryBit) {
  std::array<std::byte, 512> data{};
  const uint64_t zeros = Checksum::of(data);
  for (size_t bit = 0; bit < data.size() * 8; ++bit) {
    data[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    EXPECT_NE(Checksum::of(data), zeros) << "bit " << bit;
    data[bit / 8] = {};
  }
}

}  // namespace
}  // namespace odmoe
