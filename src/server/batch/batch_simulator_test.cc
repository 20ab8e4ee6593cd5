#include "server/batch/batch_simulator.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine_impl.h"
#include "format/checkpoint.h"
#include "server/pass_rule.h"
#include "server/scheduler.h"

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
          .kv_bytes_per_token = 1e4,
          .dense = {{.bytes = 2e8, .columns = 1}},
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

TEST(BatchSimulator, SingleTokensShareDenseWeightsAsFarAsTheseRoundAlike) {
  const std::vector<SimulatedWeights> weights = {
      {.bytes = 1, .columns = 16}, {.bytes = 1000, .columns = 7}, {.bytes = 1e6, .columns = 1}};
  const auto bytes = [&](int32_t single, int32_t chunks) {
    return dense_bytes_of({.single = single, .chunks = chunks}, weights);
  };
  EXPECT_EQ(bytes(1, 0), 1'001'001);
  EXPECT_EQ(bytes(16, 0), 16'003'001) << "seven, seven and two";
  EXPECT_EQ(bytes(17, 0), 17'004'002) << "sixteen, and one by itself";
  EXPECT_EQ(bytes(64, 0), 64'012'004);
  EXPECT_EQ(bytes(0, 3), 3'003'003) << "each part of a prompt";
}

TEST(BatchSimulator, SharingDenseWeightsIsNoFasterThanReadingAPrompt) {
  SimulatedMachine joined = machine();
  joined.dense = {{.bytes = 2e8, .columns = 16}};
  const PassCost one = cost_of({.single = 1}, joined);
  EXPECT_NEAR(one.compute_seconds, cost_of({.single = 1}, machine()).compute_seconds, 1e-9);
  const PassCost several = cost_of({.single = 16}, joined);
  EXPECT_EQ(several.dense_bytes, 2e8);
  EXPECT_NEAR(several.compute_seconds, 2e8 / 1e10 + 16 * 4e7 / 1e10, 1e-9) << "one read takes longer";
  joined.prompt_tokens_per_second = 500;
  // Five sixths of a prompt's token are dense; experts as before.
  EXPECT_NEAR(cost_of({.single = 16}, joined).compute_seconds, 16 * (5. / 6 / 500 + 4e7 / 1e10), 1e-9);
  joined.prompt_tokens_per_second = 1e6;
  EXPECT_NEAR(cost_of({.single = 16}, joined).compute_seconds, 2e8 / 1e10 + 16 * 4e7 / 1e10, 1e-9);
  joined.prompt_tokens_per_second = 1;
  EXPECT_NEAR(cost_of({.single = 16}, joined).compute_seconds, 16 * (2e8 + 4e7) / 1e10, 1e-9)
      << "nor slower than one after the other";
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

class Nobody final : public GenerationSink {
 public:
  void on_prompt(const GeneratedToken&) override {}
  bool on_token(const GeneratedToken&) override { return true; }
  void on_end(const GenerationEnd& end) override { EXPECT_EQ(end.ending, Ending::kLength); }
};

// What the scheduler and the engine do is what was simulated: passes, tokens, and bytes of dense weights.
TEST(BatchSimulator, PassesAreThoseOfARun) {
  constexpr int32_t kWidth = 21, kPrompts = 3, kChunk = 16;
  std::vector<SimulatedRequest> requests;
  for (int32_t i = 0; i < 60; ++i) {
    requests.push_back({.prompt_tokens = 1 + i * 7 % 40, .written_tokens = 1 + i * 5 % 23});
  }
  for (const bool joined : {false, true}) {
    const auto opened = EngineImpl::open({.model = ODMOE_SOURCE_DIR "/models/demo.gguf",
                                          .memory = parse_memory_budget("100%").value(),
                                          .context = 128,
                                          .threads = 1,
                                          .chunk = kChunk,
                                          .sessions = kWidth,
                                          .prompts = kPrompts},
                                         {}, {.least_joint_bytes = joined ? 0 : UINT64_MAX});
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    const auto& engine = *opened;
    std::vector<std::pair<Generation, std::shared_ptr<GenerationSink>>> generations;
    for (const SimulatedRequest& request : requests) {
      Generation generation{.max_tokens = request.written_tokens, .ignore_eos = true};
      generation.sampling.temperature = 0;
      const auto n = static_cast<int32_t>(generations.size());
      for (int32_t i = 0; i < request.prompt_tokens; ++i) {
        generation.prompt.push_back(i == 0 ? n : i * 3 % 90);  // no two begin alike
      }
      generations.emplace_back(std::move(generation), std::make_shared<Nobody>());
    }
    {
      const auto scheduler = Scheduler::create(*engine, {.sessions = kWidth,
                                                         .chunk = kChunk,
                                                         .prompts = kPrompts,
                                                         .max_queue = requests.size(),
                                                         .reuse = PromptReuse::kExact})
                                 .value();
      const auto tickets = scheduler->submit_all(std::move(generations));  // at once
      ASSERT_TRUE(tickets.has_value());
      ASSERT_TRUE(scheduler->wait_idle(std::chrono::minutes(10)));
    }
    const Stats stats = engine->stats();
    const auto file = open_checkpoint(ODMOE_SOURCE_DIR "/models/demo.gguf").value();
    std::vector<SimulatedWeights> weights;
    for (const TensorInfo& tensor : file->tensors()) {
      const bool is_expert = tensor.name.contains("_exps.");
      const bool is_embedding =
          tensor.name == "token_embd.weight" && file->find_tensor("output.weight") != nullptr;
      const bool is_matrix = tensor.ne[1] > 1 || tensor.name.ends_with("ffn_gate_inp_shexp.weight");
      if (!is_matrix || is_expert || is_embedding) continue;
      weights.push_back({.bytes = static_cast<double>(tensor.bytes), .columns = joined ? kJoined : 1});
    }
    const BatchForecast planned = forecast(requests, kWidth, kPrompts, kChunk, [&] {
      SimulatedMachine plain = machine();
      plain.dense = weights;
      return plain;
    }());
    EXPECT_EQ(static_cast<double>(stats.prefill.steps + stats.decode.steps), planned.passes);
    EXPECT_EQ(static_cast<double>(stats.prefill.tokens + stats.decode.tokens),
              planned.prompt_tokens + planned.written_tokens - planned.requests);
    EXPECT_EQ(static_cast<double>(stats.prefill.dense_read_bytes + stats.decode.dense_read_bytes),
              planned.dense_bytes);
  }
}

}  // namespace
}  // namespace odmoe::server
