#include "base/finite.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace odmoe {
namespace {

using Limits = std::numeric_limits<float>;

TEST(Finite, EveryPlaceOfEveryLengthIsLookedAt) {
  for (const size_t n : {size_t{1}, size_t{3}, size_t{63}, size_t{64}, size_t{65}, size_t{200}}) {
    std::vector<float> values(n, 1.5F);
    EXPECT_EQ(first_not_finite(values), n);
    for (size_t i = 0; i < n; ++i) {
      values[i] = Limits::quiet_NaN();
      EXPECT_EQ(first_not_finite(values), i) << "of " << n;
      values[i] = 1.5F;
    }
  }
  EXPECT_TRUE(all_finite({}));
}

TEST(Finite, TheLargestAndSmallestNumbersAreFiniteAndInfinityIsNot) {
  EXPECT_TRUE(all_finite(std::vector<float>(70, Limits::max())));
  EXPECT_TRUE(all_finite(std::vector<float>(70, Limits::lowest())));
  EXPECT_TRUE(all_finite(std::vector<float>(70, Limits::denorm_min())));
  EXPECT_TRUE(all_finite(std::vector<float>{0.0F, -0.0F}));
  EXPECT_FALSE(all_finite(std::vector<float>{1.0F, Limits::infinity()}));
  EXPECT_FALSE(all_finite(std::vector<float>{-Limits::infinity()}));
  EXPECT_FALSE(all_finite(std::vector<float>{-Limits::quiet_NaN()}));
  EXPECT_FALSE(all_finite(std::vector<float>{Limits::signaling_NaN()}));
}

TEST(Finite, ALimitIsOneOfSize) {
  const std::vector<float> values = {1.0F, -2.0F, 3.0F, -65520.0F, 65519.0F};
  EXPECT_EQ(first_not_below(65520.0F, values), 3U);
  EXPECT_EQ(first_not_below(3.0F, values), 2U);
  EXPECT_EQ(first_not_below(70000.0F, values), values.size());
  EXPECT_EQ(first_not_below(70000.0F, std::vector<float>{1.0F, Limits::quiet_NaN()}), 1U);
}

}  // namespace
}  // namespace odmoe
