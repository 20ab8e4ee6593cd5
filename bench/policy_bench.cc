// What a decision costs: a token in one layer, in the shapes of models that the project is for.  The store
// holds a quarter of the experts, and the choices are skewed, so that a part of them misses.
//
//   odmoe_policy_bench [--benchmark_filter=...]
#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <vector>

#include "store/residency_policy.h"

namespace odmoe {
namespace {

constexpr int32_t kUsed = 8;

void token_in_a_layer(benchmark::State& state) {
  const auto kind = static_cast<PolicyKind>(state.range(0));
  const auto n_layer = static_cast<int32_t>(state.range(1)), n_expert = static_cast<int32_t>(state.range(2));
  std::vector<PolicyLayer> layers;
  for (int32_t layer = 0; layer < n_layer; ++layer) layers.push_back({layer, n_expert});
  const int32_t n_slot = n_layer * n_expert / 4;
  const auto policy = make_policy(kind, layers, n_slot, kUsed);
  std::vector<std::vector<bool>> resident(static_cast<size_t>(n_layer),
                                          std::vector<bool>(static_cast<size_t>(n_expert)));
  int32_t n_resident = 0;
  std::array<int32_t, kUsed> chosen{};
  constexpr std::array<float, kUsed> kWeights = {0.3F, 0.2F, 0.15F, 0.1F, 0.1F, 0.05F, 0.05F, 0.05F};
  uint64_t random = 1, misses = 0;
  int32_t layer = 0;
  while (state.KeepRunning()) {
    for (int32_t k = 0; k < kUsed; ++k) {  // a skewed choice of its own stretch for each rank
      random = random * 6364136223846793005U + 1442695040888963407U;
      const double u = static_cast<double>(random >> 40U) / (1 << 24U);
      chosen[static_cast<size_t>(k)] =
          n_expert / kUsed * k + static_cast<int32_t>(u * u * u * (n_expert / kUsed));
    }
    policy->observe(layer, chosen, kWeights);
    auto& here = resident[static_cast<size_t>(layer)];
    for (const int32_t e : chosen) {
      if (here[static_cast<size_t>(e)]) policy->set_held({layer, e}, true);
    }
    for (const int32_t e : chosen) {
      if (here[static_cast<size_t>(e)]) continue;
      ++misses;
      if (n_resident == n_slot) {
        const auto victim = policy->victim(layer, Reach::kBorrow);
        policy->remove(*victim);
        resident[static_cast<size_t>(victim->layer)][static_cast<size_t>(victim->expert)] = false;
        --n_resident;
      }
      policy->admit({layer, e});
      here[static_cast<size_t>(e)] = true;
      ++n_resident;
    }
    for (const int32_t e : chosen) policy->use({layer, e});
    for (const int32_t e : chosen) policy->set_held({layer, e}, false);
    layer = (layer + 1) % n_layer;
  }
  state.counters["misses"] =
      benchmark::Counter(static_cast<double>(misses), benchmark::Counter::kAvgIterations);
}

BENCHMARK(token_in_a_layer)
    ->ArgNames({"policy", "layers", "experts"})
    ->ArgsProduct({{0, 1, 2, 3, 4}, {48}, {128}})
    ->ArgsProduct({{0, 1, 2, 3, 4}, {60}, {384}});

}  // namespace
}  // namespace odmoe

BENCHMARK_MAIN();
