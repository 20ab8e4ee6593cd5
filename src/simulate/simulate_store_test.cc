// The simulator and the engine's store count the same.
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <vector>

#include "io/fake_reader.h"
#include "simulate/simulate.h"
#include "store/expert_store.h"
#include "store/testing.h"
#include "trace/trace_file.h"

namespace odmoe {
namespace {

// Four layers, two of eight experts: some used all the time, some now and then, and a phase in between.
RoutingTrace phased_trace() {
  RoutingTrace trace;
  trace.n_layer = 4;
  trace.n_expert = 8;
  trace.n_expert_used = 2;
  uint32_t state = 3;
  for (int t = 0; t < 150; ++t) {
    for (int32_t layer = 0; layer < 4; ++layer) {
      state = state * 1664525 + 1013904223;
      const auto draw = static_cast<int32_t>(state >> 16U);
      const int32_t first = (t / 50 + layer + (draw % 4 == 0 ? draw / 4 % 8 : 0)) % 8;
      const int32_t second = (first + 1 + draw / 32 % 3) % 8;
      trace.events.push_back({.layer = layer, .n_expert = 2, .first = trace.experts.size()});
      trace.experts.insert(trace.experts.end(), {first, second});
      trace.weights.insert(trace.weights.end(), {0.7F, 0.3F});
    }
  }
  return trace;
}

// One lease of a token's experts in a layer at a time, as in decoding.
void expect_same_hits(const RoutingTrace& trace, PolicyKind kind, int64_t n_slot) {
  const FakeSource source({.n_layer = trace.n_layer,
                           .n_expert = trace.n_expert,
                           .n_expert_used = trace.n_expert_used,
                           .slice_bytes = {4096, 4096, 4096}});
  const auto disk = std::make_shared<FakeDisk>();
  source.add_to(*disk);
  auto reader = std::make_unique<FakeReader>(disk);
  const ReadAlignment alignment = reader->alignment();
  const uint64_t all = ExpertStore::max_arena_bytes(source, alignment);
  const auto n_expert = static_cast<uint64_t>(trace.n_layer) * static_cast<uint64_t>(trace.n_expert);
  const auto store =
      ExpertStore::create(source, std::move(reader),
                          {.arena_bytes = all / n_expert * static_cast<uint64_t>(n_slot), .policy = kind});
  ASSERT_TRUE(store.has_value()) << store.error().message;
  ASSERT_EQ((*store)->stats().n_slot, n_slot);
  std::vector<ExpertLease> leases;
  for (const RoutingTrace::Event& event : trace.events) {
    (*store)->observe(event.layer, trace.experts_of(event), trace.weights_of(event));
    ASSERT_EQ((*store)->lease(event.layer, trace.experts_of(event), leases), event.n_expert);
    ASSERT_TRUE((*store)->wait_all(leases).has_value());
    leases.clear();
  }
  const ExpertStoreStats stats = (*store)->stats();
  const auto simulated = simulate(trace, kind, n_slot);
  ASSERT_TRUE(simulated.has_value());
  EXPECT_EQ(stats.demands, simulated->demands);
  EXPECT_EQ(stats.hits, simulated->hits) << "policy " << static_cast<int>(kind) << " with " << n_slot;
  EXPECT_EQ(stats.late_hits, 0U);
}

class SimulateStore : public ::testing::TestWithParam<PolicyKind> {};

TEST_P(SimulateStore, CountsTheStoresHits) {
  for (const int64_t n_slot : {2, 5, 8, 16, 32}) expect_same_hits(phased_trace(), GetParam(), n_slot);
}

TEST_P(SimulateStore, CountsTheStoresHitsOnTheToy) {
  const auto trace = read_trace(ODMOE_SOURCE_DIR "/tests/data/traces/toy");
  ASSERT_TRUE(trace.has_value());
  expect_same_hits(*trace, GetParam(), 6);
}

INSTANTIATE_TEST_SUITE_P(Policies, SimulateStore,
                         ::testing::Values(PolicyKind::kForecast, PolicyKind::kLru, PolicyKind::kLayerLru,
                                           PolicyKind::kLfu, PolicyKind::kLfuAging),
                         [](const auto& kind) { return std::to_string(static_cast<int>(kind.param)); });

}  // namespace
}  // namespace odmoe
