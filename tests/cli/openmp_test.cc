// How long the threads that compute spin, as the library that spins says it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "cli/process.h"

namespace odmoe::testing::openmp_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What GNU OpenMP says of its settings when the program starts with these; null: without.
std::string settings(const char* wait_policy, const char* spin_count) {
  const auto set = [](const char* name, const char* value) {
    if (value == nullptr) {
      unsetenv(name);
    } else {
      setenv(name, value, /*overwrite=*/1);
    }
  };
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  const std::string before = policy == nullptr ? "" : policy;
  set("OMP_WAIT_POLICY", wait_policy);
  set("GOMP_SPINCOUNT", spin_count);
  set("OMP_DISPLAY_ENV", "verbose");
  const Outcome outcome = odmoe({"--version"});
  EXPECT_EQ(outcome.exit_code, 0);
  set("OMP_DISPLAY_ENV", nullptr);
  set("GOMP_SPINCOUNT", nullptr);
  set("OMP_WAIT_POLICY", policy == nullptr ? nullptr : before.c_str());
  return outcome.err;
}

TEST(OpenMp, ThreadsSpinForShortUnlessTheUserSaysOtherwise) {
  const std::string ours = settings(nullptr, nullptr);
  if (!ours.contains("GOMP_SPINCOUNT")) GTEST_SKIP() << "this ggml computes without GNU OpenMP";
  EXPECT_THAT(ours, HasSubstr("GOMP_SPINCOUNT = '10000'"));
  EXPECT_THAT(settings(nullptr, "77"), HasSubstr("GOMP_SPINCOUNT = '77'"));
  setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", /*overwrite=*/1);  // ranks that share the processors
  EXPECT_THAT(settings(nullptr, nullptr), HasSubstr("GOMP_SPINCOUNT = '0'"));
  setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "1", /*overwrite=*/1);
  EXPECT_THAT(settings(nullptr, nullptr), HasSubstr("GOMP_SPINCOUNT = '10000'"));
  unsetenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  EXPECT_THAT(settings("passive", nullptr), Not(HasSubstr("GOMP_SPINCOUNT = '10000'")));
}

}  // namespace
}  // namespace odmoe::testing::openmp_test
