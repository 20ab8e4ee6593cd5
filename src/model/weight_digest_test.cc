#include "model/weight_digest.h"

#include <gtest/gtest.h>

#include <array>
#include <string_view>

#include "deadline.h"

namespace odmoe {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(WeightDigest, IsOfThePiecesInTheirOrderHoweverTheyCame) {
  constexpr std::array<std::string_view, 3> kPieces = {"router", "norm", "embedding"};
  WeightDigest digest(kPieces.size());
  for (const size_t i : {2U, 0U, 1U}) digest.add(i, bytes_of(kPieces[i]));
  const auto got = digest.finish();
  ASSERT_EQ(got.size(), kPieces.size());
  for (size_t i = 0; i < kPieces.size(); ++i) EXPECT_EQ(got[i], Fingerprint::of(bytes_of(kPieces[i])));
}

TEST(WeightDigest, EndsWithoutHavingBeenFinished) {
  const odmoe::testing::Deadline deadline("the digest's end");
  WeightDigest digest(2);
  digest.add(0, bytes_of("reading failed after this"));
  // Its end waits for its thread, to which the second piece never comes.
}

}  // namespace
}  // namespace odmoe
