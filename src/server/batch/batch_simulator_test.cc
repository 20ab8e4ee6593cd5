#include "server/batch/batch_simulator.h"

#include <gtest/gtest.h>

#include <vector>

#include "server/pass_rule.h"

namespace odmoe::server {
namespace {

using enum SeatDoes;

TEST(PassRule, EverybodyWritesAndReadersTakeTurns) {
  const std::vector<SeatDoes> seats = {kReads, kWrites, kReads, kNothing, kReads, kWrites};
  std::vector<size_t> chosen;
  size_t first = choose_pass(seats, 0, 2, chosen);
  EXPECT_EQ(chosen, (std::vector<size_t>{1, 5, 0, 2}));
  first = choose_pass(seats, first, 2, chosen);
  EXPECT_EQ(chosen, (std::vector<size_t>{1, 5, 4, 0}));
  (void)choose_pass(seats, first, 9, chosen);
  EXPECT_EQ(chosen.size(), 5U) << "nobody twice";
}

std::vector<SimulatedPass> passes_of(const std::vector<SimulatedRequest>& requests, int32_t width,
                                     int32_t prompts, int32_t chunk) {
  std::vector<SimulatedPass> passes;
  simulate_passes(requests, width, prompts, chunk, [&](const auto& pass) { passes.push_back(pass); });
  return passes;
}

TEST(BatchSimulator, OneRequestIsReadInChunksAndWrittenTokenByToken) {
  const auto passes = passes_of({{.prompt_tokens = 20, .written_tokens = 3}}, 4, 2, 16);
  // 16, then 4 which give the first token, and two more.
  ASSERT_EQ(passes.size(), 4U);
  EXPECT_EQ(passes[0].chunk_tokens, 16);
  EXPECT_EQ(passes[1].chunk_tokens, 4);
  EXPECT_EQ(passes[2].single, 1);
  EXPECT_EQ(passes[2].chunks, 0);
  EXPECT_EQ(passes[3].kv_tokens, 22);
}

TEST(BatchSimulator, AllTokensAreInSomePassWhateverTheWidth) {
  std::vector<SimulatedRequest> requests;
  for (int i = 0; i < 50; ++i)
    requests.push_back({.prompt_tokens = 1 + i * 7 % 60, .written_tokens = 1 + i * 5 % 30});
  for (const int32_t width : {1, 3, 16, 64}) {
    int64_t tokens = 0, expected = 0;
    int32_t most = 0;
    for (const SimulatedPass& pass : passes_of(requests, width, 2, 16)) {
      tokens += pass.single + pass.chunk_tokens;
      most = std::max(most, pass.single + pass.chunks);
      EXPECT_LE(pass.chunks, 2);
    }
    for (const auto& request : requests) expected += request.prompt_tokens + request.written_tokens - 1;
    EXPECT_EQ(tokens, expected);
    EXPECT_LE(most, width);
  }
}

SimulatedMachine machine() {
  return {.n_layer = 10,
          .n_expert = 100,
          .n_expert_used = 4,
          .expert_bytes = 1e6,
          .share = 0.25,
          .hit_rate = 0.75,
          .dense_bytes = 2e8,
          .kv_bytes_per_token = 1e4,
          .memory_bytes_per_second = 1e10,
          .drive_bytes_per_second = 1e9,
          .prompt_tokens_per_second = 1000};
}

TEST(BatchSimulator, ASingleTokenCostsWhatAPlanSays) {
  const PassCost cost = cost_of({.single = 1, .kv_tokens = 100}, machine());
  EXPECT_NEAR(cost.read_bytes, 10 * 4 * 1e6 * 0.25, 1);
  EXPECT_NEAR(cost.read_seconds, 0.01, 1e-9);
  EXPECT_NEAR(cost.compute_seconds, (2e8 + 4e7 + 1e6) / 1e10, 1e-9);
}

TEST(BatchSimulator, APassThatWantsAllReadsWhatDoesNotFit) {
  const PassCost cost = cost_of({.chunks = 4, .chunk_tokens = 2000, .kv_tokens = 0}, machine());
  EXPECT_NEAR(cost.read_bytes, 10 * 100 * 1e6 * 0.75, 1e3);
  EXPECT_NEAR(cost.compute_seconds, 2, 1e-9);
}

TEST(BatchSimulator, SeveralMachinesReadTheirOwnAndSendRows) {
  SimulatedMachine two = machine();
  two.machines = 2;
  two.network_bytes_per_second = 1e9;
  two.latency_seconds = 1e-4;
  two.n_embd = 1000;
  two.most = [](double n) { return n * 0.75; };
  const PassCost cost = cost_of({.single = 1, .kv_tokens = 100}, two);
  EXPECT_NEAR(cost.read_bytes, 1e7, 1) << "all of them together";
  EXPECT_NEAR(cost.read_seconds, 0.0075, 1e-9) << "the one with the most";
  EXPECT_NEAR(cost.compute_seconds, (2e8 + 0.75 * 4e7 + 1e6) / 1e10, 1e-9);
  // 1 - 1/16 there, 2 back, in each of 10 layers.
  EXPECT_NEAR(cost.network_seconds, 10 * (2.9375 * 4000 / 1e9 + 2e-4), 1e-9);
  const PassCost of_prompt = cost_of({.chunks = 1, .chunk_tokens = 1000}, two);
  EXPECT_NEAR(of_prompt.compute_seconds, 1 - 1. / 6 + 0.75 / 6, 1e-9);
  const PassCost wide = cost_of({.single = 100'000}, two);
  EXPECT_NEAR(wide.read_seconds, 10 * 50 * 1e6 / 1e9, 1e-9) << "its share at most";
}

TEST(BatchSimulator, WiderIsFewerBytesForEachToken) {
  const std::vector<SimulatedRequest> requests(256, {.prompt_tokens = 100, .written_tokens = 50});
  double before = 1e300;
  for (const int32_t width : {1, 4, 16, 64, 256}) {
    const BatchForecast all = forecast(requests, width, 4, 64, machine());
    EXPECT_EQ(all.written_tokens, 256 * 50);
    EXPECT_LT(all.read_bytes, before);
    EXPECT_LE(all.at_least_seconds, all.at_most_seconds);
    before = all.read_bytes;
  }
}

}  // namespace
}  // namespace odmoe::server
