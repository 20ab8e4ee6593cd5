#include "trace/trace_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "temp_dir.h"
#include "trace/trace_file.h"

namespace odmoe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint16_t kQuarter = 0x3400, kHalf = 0x3800;

// Sessions of two tokens and of one; two layers, two experts each.
std::vector<TraceSession> sessions(uint16_t last_expert) {
  return {{.first_position = 0,
           .experts = {1, 2, 3, 4, 5, 6, 7, 0},
           .weights = {kHalf, kQuarter, kHalf, kQuarter, kHalf, kQuarter, kHalf, kQuarter}},
          {.first_position = 5, .experts = {0, 1, 2, last_expert}, .weights = {kHalf, kHalf, kHalf, kHalf}}};
}

class TraceWriter : public ::testing::TestWithParam<const char*> {};

TEST_P(TraceWriter, WritesWhatTheReaderReads) {
  const testing::TempDir dir;
  const auto path = dir.path() / GetParam();
  ASSERT_TRUE(write_trace(path, {.n_layer = 2, .n_expert = 8, .n_expert_used = 2}, sessions(7)).has_value());
  const auto trace = read_trace(path);
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_EQ(trace->n_session, 2);
  ASSERT_EQ(trace->events.size(), 6U);
  EXPECT_EQ(trace->events[3].layer, 1);
  EXPECT_THAT(trace->experts_of(trace->events[3]), ElementsAre(7, 0));
  EXPECT_THAT(trace->weights_of(trace->events[3]), ElementsAre(0.5F, 0.25F));
  EXPECT_THAT(trace->experts_of(trace->events[5]), ElementsAre(2, 7));
}

INSTANTIATE_TEST_SUITE_P(PlainAndPacked, TraceWriter, ::testing::Values("routing.trace", "routing.trace.xz"),
                         [](const auto& test) { return test.index == 0 ? "Plain" : "Packed"; });

TEST(TraceWriter, HoldsMoreExpertsThanAByteCounts) {
  const testing::TempDir dir;
  const auto path = dir.path() / "wide.trace";
  ASSERT_TRUE(
      write_trace(path, {.n_layer = 2, .n_expert = 384, .n_expert_used = 2}, sessions(383)).has_value());
  const auto trace = read_trace(path);
  ASSERT_TRUE(trace.has_value()) << trace.error().message;
  EXPECT_EQ(trace->n_expert, 384);
  EXPECT_THAT(trace->experts_of(trace->events[5]), ElementsAre(2, 383));
}

TEST(TraceWriter, RefusesSessionsThatAreNoWholeTokens) {
  const std::vector<TraceSession> odd = {{.experts = {1, 2, 3}, .weights = {0, 0, 0}}};
  const auto bytes = serialise_trace({.n_layer = 2, .n_expert = 8, .n_expert_used = 2}, odd);
  ASSERT_FALSE(bytes.has_value());
  EXPECT_EQ(bytes.error().kind, ErrorKind::kUsage);
}

TEST(TraceWriter, SaysWhereItCouldNotWrite) {
  const Status status =
      write_trace("/nowhere/x.trace", {.n_layer = 2, .n_expert = 8, .n_expert_used = 2}, sessions(7));
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("/nowhere/x.trace"));
}

}  // namespace
}  // namespace odmoe
