#include "cli/pull_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace odmoe::cli {
namespace {

using ::testing::HasSubstr;

TEST(PullTerminal, APlanIsALine) {
  hub::PullPlan plan{.name = "hf:o/r",
                     .stem = "m-Q4_K_M",
                     .quantisation = "Q4_K_M",
                     .architecture = "qwen3moe",
                     .n_file = 2,
                     .bytes = uint64_t{3} << 30U,
                     .bytes_left = uint64_t{3} << 30U,
                     .folder = "/cache"};
  EXPECT_EQ(plan_line(plan), "hf:o/r: m-Q4_K_M, Q4_K_M, qwen3moe, 3.00 GiB in 2 files, to /cache");
  plan.bytes_left = uint64_t{1} << 30U;
  plan.architecture = "unheard-of";
  plan.n_file = 1;
  EXPECT_EQ(plan_line(plan),
            "hf:o/r: m-Q4_K_M, Q4_K_M, unheard-of, 3.00 GiB of which 1.00 GiB are left to download, to "
            "/cache; odmoe "
            "does not run the family unheard-of (`odmoe models` lists those that it does)");
}

}  // namespace
}  // namespace odmoe::cli
