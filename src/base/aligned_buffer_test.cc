#include "base/aligned_buffer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "base/memory_info.h"
#include "base/units.h"

namespace odmoe {
namespace {

TEST(AlignedBuffer, StartsOnAPageAndReadsAsZeros) {
  for (const bool huge_pages : {false, true}) {
    for (const uint64_t bytes : {uint64_t{1}, 3 * kMiB + 5}) {
      const auto buffer = AlignedBuffer::allocate(bytes, huge_pages);
      ASSERT_TRUE(buffer.has_value());
      EXPECT_EQ(buffer->size(), bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % static_cast<uint64_t>(sysconf(_SC_PAGESIZE)),
                0U);
      EXPECT_TRUE(std::ranges::all_of(buffer->span(), [](std::byte b) { return b == std::byte{0}; }));
      buffer->data()[bytes - 1] = std::byte{1};
    }
  }
}

TEST(AlignedBuffer, UntouchedPagesCostNothing) {
  const uint64_t before = resident_bytes();
  const auto buffer = AlignedBuffer::allocate(512 * kMiB, true);
  ASSERT_TRUE(buffer.has_value());
  EXPECT_LT(resident_bytes(), before + 64 * kMiB);
}

TEST(AlignedBuffer, WhatIsDiscardedGoesBackToTheSystemAndReadsAsZeros) {
  for (const bool huge_pages : {false, true}) {
    auto buffer = AlignedBuffer::allocate(64 * kMiB + 12, huge_pages).value();
    std::ranges::fill(buffer.span(), std::byte{1});
    const uint64_t before = resident_bytes();
    constexpr uint64_t kFrom = 3 * kMiB + 7;
    buffer.discard(kFrom, buffer.size() - kFrom);
    EXPECT_LT(resident_bytes(), before - 59 * kMiB);
    EXPECT_EQ(buffer.data()[kFrom - 1], std::byte{1});
    const uint64_t gone = round_up(kFrom, buffer.discard_bytes());
    EXPECT_TRUE(
        std::ranges::all_of(buffer.span().subspan(gone), [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST(AlignedBuffer, WhatIsPopulatedIsThereAndKeepsItsBytes) {
  for (const bool huge_pages : {false, true}) {
    auto buffer = AlignedBuffer::allocate(64 * kMiB + 12, huge_pages).value();
    buffer.data()[buffer.size() - 1] = buffer.data()[5 * kMiB] = std::byte{7};
    const uint64_t before = resident_bytes();
    buffer.populate(3 * kMiB + 7, buffer.size() - 3 * kMiB - 7);
    EXPECT_GT(resident_bytes(), before + 50 * kMiB);
    EXPECT_EQ(buffer.data()[5 * kMiB], std::byte{7});
    EXPECT_EQ(buffer.data()[buffer.size() - 1], std::byte{7});
    EXPECT_EQ(buffer.data()[20 * kMiB], std::byte{0});
  }
}

TEST(AlignedBuffer, APageThatIsDiscardedOnlyInPartStays) {
  auto buffer = AlignedBuffer::allocate(16 * kMiB, true).value();
  std::ranges::fill(buffer.span(), std::byte{1});
  const uint64_t unit = buffer.discard_bytes();
  buffer.discard(unit + 1, unit);
  EXPECT_TRUE(std::ranges::all_of(buffer.span(), [](std::byte b) { return b == std::byte{1}; }));
}

TEST(AlignedBuffer, MovingKeepsTheAddressAndEmptiesTheSource) {
  auto first = AlignedBuffer::allocate(100).value();
  std::byte* const data = first.data();
  AlignedBuffer second = std::move(first);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT(bugprone-use-after-move): what is promised
  AlignedBuffer third;
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
}

TEST(AlignedBuffer, NothingIsAnEmptyBuffer) {
  const auto buffer = AlignedBuffer::allocate(0);
  ASSERT_TRUE(buffer.has_value());
  EXPECT_TRUE(buffer->span().empty());
}

TEST(AlignedBuffer, MoreThanTheAddressSpaceIsAnErrorThatSaysHowMuch) {
  for (const uint64_t bytes : {uint64_t{1} << 60U, std::numeric_limits<uint64_t>::max()}) {
    const auto buffer = AlignedBuffer::allocate(bytes, true);
    ASSERT_FALSE(buffer.has_value());
    EXPECT_EQ(buffer.error().kind, ErrorKind::kIo);
    EXPECT_NE(buffer.error().message.find("EiB"), std::string::npos) << buffer.error().message;
  }
}

}  // namespace
}  // namespace odmoe
