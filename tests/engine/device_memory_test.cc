// Dense weights on a device that has memory of its own: what the host needs of activations is fetched, and
// what it writes is sent.
#include <gtest/gtest.h>

#include <cstring>

#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::device_memory_test {
namespace {

using namespace odmoe::testing;

constexpr std::string_view kText =
    "In the beginning was the word, and the word was with the people of the United States; and it came to "
    "pass that the king said unto his servants, What is the matter?";

Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

// Every position of a prompt, of tokens alone, of steps of two sessions, and what comes of a saved state.
std::vector<float> run(const EngineOptions& options, bool memory_of_its_own) {
  const auto engine = open_or_fail(options, {.memory_of_its_own = memory_of_its_own});
  if (engine == nullptr) return {};
  std::vector<float> logits;
  const LogitsSink collect = [&](int32_t, std::span<const float> values) {
    logits.insert(logits.end(), values.begin(), values.end());
  };
  auto one = engine->new_session().value(), two = engine->new_session().value();
  const std::vector<Token> prompt = engine->encode(kText, true, true);
  EXPECT_TRUE(one->evaluate(prompt, collect).has_value());
  for (int i = 0; i < 6; ++i) {
    const Token next = likeliest(one->logits());
    EXPECT_TRUE(one->evaluate({&next, 1}, collect).has_value());
  }
  const auto n = static_cast<int32_t>(one->tokens().size());
  std::vector<std::byte> state(one->state_bytes(n));
  one->save_state(n, state);
  EXPECT_TRUE(two->restore_state(one->tokens(), n, one->division(), state).has_value());
  const Token first = likeliest(one->logits());
  EXPECT_TRUE(two->evaluate({&first, 1}, collect).has_value());
  EXPECT_TRUE(one->evaluate({&first, 1}, collect).has_value());
  EXPECT_EQ(std::memcmp(one->logits().data(), two->logits().data(), one->logits().size_bytes()), 0);
  for (int i = 0; i < 4; ++i) {
    const std::array batch = {NextToken{.session = one.get(), .token = likeliest(one->logits())},
                              NextToken{.session = two.get(), .token = static_cast<Token>(i + 5)}};
    EXPECT_TRUE(engine->step(batch).has_value());
    collect(0, one->logits());
    collect(0, two->logits());
  }
  return logits;
}

class OwnMemoryBits : public ::testing::TestWithParam<const char*> {};

TEST_P(OwnMemoryBits, AreThoseOfHostMemory) {
  const TempDir dir;
  std::filesystem::path model = bundled_model();
  if (std::string_view(GetParam()) != "bundled") {
    model = dir / "model.gguf";
    runnable_model({.architecture = GetParam()}).write(model);
  }
  EngineOptions options = reference_options(model);
  options.memory = {.kind = MemoryBudget::Kind::kExpertPercent, .bytes = 0, .percent = 50};
  options.chunk = 32;
  options.sessions = 2;
  for (const PredictorKind predictor : {PredictorKind::kNone, PredictorKind::kStaleGate}) {
    options.predictor = predictor;
    const std::vector<float> wanted = run(options, false), got = run(options, true);
    ASSERT_FALSE(wanted.empty());
    ASSERT_EQ(got.size(), wanted.size());
    EXPECT_EQ(std::memcmp(got.data(), wanted.data(), wanted.size() * sizeof(float)), 0);
  }
}

TEST(OwnMemory, IsPlannedApartFromTheHosts) {
  EngineOptions options = reference_options(bundled_model());
  options.sessions = 2;
  const auto host = open_or_fail(options);
  const auto device = open_or_fail(options, {.memory_of_its_own = true});
  ASSERT_TRUE(host != nullptr && device != nullptr);
  const MemoryPlan& one = host->plan();
  const MemoryPlan& two = device->plan();
  EXPECT_EQ(one.device.bytes(), 0U);
  EXPECT_EQ(two.dense_bytes, 0U);
  EXPECT_EQ(two.kv_bytes, 0U) << "nothing is kept on the host where all rows are there";
  EXPECT_EQ(two.device.dense_bytes, one.dense_bytes);
  EXPECT_EQ(two.device.kv_bytes, one.kv_bytes);
  EXPECT_GT(two.device.buffer_bytes, 0U);
  EXPECT_EQ(two.device.minimum_bytes, two.device.bytes());
  EXPECT_GT(two.device.available_bytes, two.device.bytes());
  const auto session = device->new_session().value();
  ASSERT_TRUE(session->evaluate(device->encode(kText, true, true)).has_value());
  EXPECT_EQ(device->stats().kv_bytes_in_use, 0U) << "of the host's memory";
}

// For each layer of experts one graph, or two with a shared expert, one exchange each way, and nothing else;
// for a token besides what follows the last of them, and the head.  (This device fetches when it has ended,
// as Metal does, so it is waited for more often than a Vulkan device, which is in gpu_test.cc.)
TEST(OwnMemory, WhatALayerOfExpertsExchangesIsCounted) {
  for (const char* architecture : {"qwen3moe", "qwen2moe"}) {
    const TempDir dir;
    const auto model = dir / "model.gguf";
    runnable_model({.architecture = architecture}).write(model);
    EngineOptions options = reference_options(model);
    options.predictor = PredictorKind::kNone;
    const auto engine = open_or_fail(options, {.memory_of_its_own = true});
    ASSERT_NE(engine, nullptr);
    const auto session = engine->new_session().value();
    ASSERT_TRUE(session->evaluate(engine->encode(kText, true, true)).has_value());
    const Stats before = engine->stats();
    const Token next = 5;
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(session->evaluate({&next, 1}).has_value());
    const Stats after = engine->stats();
    const ModelShape& shape = engine->decoder().shape();
    const auto n_layer = engine->decoder().expert_layers().size();
    const uint64_t n_graph = shape.shared.n_ff > 0 ? 2 : 1;
    EXPECT_EQ(before.prefill.layers, n_layer);
    EXPECT_EQ(after.prefill.layers, n_layer);
    EXPECT_EQ(before.decode.layers, 0U);
    EXPECT_EQ(after.decode.layers, 2 * n_layer);
    const DeviceTraffic& layers = after.decode.device_layers;
    EXPECT_EQ(layers.graphs, 2 * n_layer * n_graph);
    EXPECT_GE(layers.waits, 2 * n_layer);
    EXPECT_EQ(after.decode.device.graphs, layers.graphs + 2 * 2);
    EXPECT_GE(after.decode.device.waits, after.decode.device.graphs);
    EXPECT_GT(layers.operations, layers.graphs);
    // The experts' outputs and weights go there; back come the router's logits, what experts see, and sums.
    const auto n_embd = static_cast<uint64_t>(shape.n_embd),
               n_expert = static_cast<uint64_t>(shape.router.n_expert);
    EXPECT_EQ(layers.sent_bytes,
              2 * n_layer * static_cast<uint64_t>(shape.router.n_expert_used) * (n_embd + 1) * sizeof(float));
    const uint64_t fetched = 2 * n_layer * (n_embd + n_expert) * sizeof(float);
    EXPECT_GE(layers.fetched_bytes, fetched);
    EXPECT_LT(layers.fetched_bytes, 2 * fetched);
    EXPECT_GT(after.decode.device.sent_bytes, layers.sent_bytes);
    EXPECT_GE(after.decode.device.fetched_bytes - layers.fetched_bytes,
              2 * static_cast<uint64_t>(shape.n_vocab) * sizeof(float));
    EXPECT_GE(after.decode.device.launch_us, layers.launch_us);
    EXPECT_GE(after.prefill.device_layers.sent_bytes, before.decode.device_layers.sent_bytes);
  }
}

// A step of several sessions is one exchange for each of them in a layer.
TEST(OwnMemory, OfAStepALayerIsCountedOnce) {
  EngineOptions options = reference_options(bundled_model());
  options.predictor = PredictorKind::kNone;
  options.sessions = 2;
  const auto engine = open_or_fail(options, {.memory_of_its_own = true});
  ASSERT_NE(engine, nullptr);
  const auto one = engine->new_session().value(), two = engine->new_session().value();
  const Token token = 5;
  ASSERT_TRUE(one->evaluate({&token, 1}).has_value());
  ASSERT_TRUE(two->evaluate({&token, 1}).has_value());
  const Stats::Phase alone = engine->stats().decode;
  const std::array batch = {NextToken{.session = one.get(), .token = 7},
                            NextToken{.session = two.get(), .token = 9}};
  ASSERT_TRUE(engine->step(batch).has_value());
  const Stats::Phase both = engine->stats().decode;
  EXPECT_EQ(alone.layers, 2 * engine->decoder().expert_layers().size());
  EXPECT_EQ(both.layers - alone.layers, engine->decoder().expert_layers().size());
  EXPECT_EQ(both.device_layers.since(alone.device_layers).sent_bytes, alone.device_layers.sent_bytes);
  EXPECT_EQ(both.device_layers.since(alone.device_layers).graphs, alone.device_layers.graphs);
}

TEST(OwnMemory, ThatIsTooSmallIsRefused) {
  const EngineOptions options = reference_options(bundled_model());
  const auto engine =
      EngineImpl::open(options, {}, {.memory_of_its_own = true, .device_bytes = uint64_t{1} << 20});
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().kind, ErrorKind::kBudget);
  EXPECT_TRUE(engine.error().message.contains("1.00 MiB of memory may be taken of CPU"))
      << engine.error().message;
}

// An integrated GPU: one budget has the host's part and the device's.
TEST(OwnMemory, ThatIsTheHostsTooCountsInTheBudget) {
  EngineOptions options = reference_options(bundled_model());
  const auto apart = open_or_fail(options, {.memory_of_its_own = true});
  const auto shared = open_or_fail(options, {.memory_of_its_own = true, .shares_host_memory = true});
  ASSERT_TRUE(apart != nullptr && shared != nullptr);
  const MemoryPlan one = apart->plan(), both = shared->plan();
  const uint64_t more = both.device.bytes();
  EXPECT_GT(more, 0U);
  // What the process takes already is in the buffers.
  EXPECT_EQ(both.minimum_bytes - both.buffer_bytes, one.minimum_bytes - one.buffer_bytes + more);
  EXPECT_EQ(both.budget_bytes - both.buffer_bytes, one.budget_bytes - one.buffer_bytes + more);
  options.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = both.minimum_bytes - more / 2};
  const auto refused = EngineImpl::open(options, {}, {.memory_of_its_own = true, .shares_host_memory = true});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kBudget);
  EXPECT_TRUE(refused.error().message.contains(" for CPU, ")) << refused.error().message;
}

// The processor, once more under another name's guise.
TEST(DeviceAuto, IsWhatWasMeasuredToBeFasterAndKept) {
  const TempDir dir;
  EngineOptions options = reference_options(bundled_model());
  options.device_file = dir.path() / "devices.json";
  int measured = 0;
  EngineDependencies dependencies;
  dependencies.find_devices = [] {
    return std::vector<DeviceInfo>{{.name = "CPU", .description = "a processor"},
                                   {.name = "CPU", .description = "a GPU", .kind = DeviceInfo::Kind::kGpu}};
  };
  dependencies.measure_device = [&](const EngineOptions& asked) -> Result<DeviceSpeed> {
    ++measured;
    EXPECT_EQ(asked.predictor, PredictorKind::kNone);
    return asked.device == "CPU" ? DeviceSpeed{.prefill = 200, .decode = 20}
                                 : DeviceSpeed{.prefill = 100, .decode = 10};
  };
  const std::string wanted =
      "--device auto is CPU: a prompt and an answer: the processor 100.0 and 10.0 tokens/s; CPU 200.0 and "
      "20.0 "
      "tokens/s";
  for (const int more : {2, 0}) {
    measured = 0;
    const auto engine = open_or_fail(options, dependencies);
    ASSERT_NE(engine, nullptr);
    EXPECT_EQ(engine->device_choice(), wanted);
    EXPECT_EQ(measured, more);
  }
  options.device = "cpu";
  EXPECT_EQ(open_or_fail(options, dependencies)->device_choice(), "") << "it was named";
  EXPECT_EQ(measured, 0);
}

TEST(DeviceAuto, MeasuresTheProcessorWithoutThePlacementOfExperts) {
  const TempDir dir;
  EngineOptions options = reference_options(bundled_model());
  options.device_file = dir.path() / "devices.json";
  options.experts = ExpertPlacement::kDevice;
  std::vector<std::pair<std::string, ExpertPlacement>> asked;
  EngineDependencies dependencies;
  dependencies.find_devices = [] {
    return std::vector<DeviceInfo>{{.name = "CPU", .description = "a processor"},
                                   {.name = "GPU0", .description = "a GPU", .kind = DeviceInfo::Kind::kGpu}};
  };
  dependencies.measure_device = [&](const EngineOptions& here) -> Result<DeviceSpeed> {
    asked.emplace_back(here.device, here.experts);
    return DeviceSpeed{.prefill = 100, .decode = 10};
  };
  const auto refused = EngineImpl::open(options, {}, dependencies);
  EXPECT_EQ(asked, (std::vector<std::pair<std::string, ExpertPlacement>>{
                       {"cpu", ExpertPlacement::kHost}, {"GPU0", ExpertPlacement::kDevice}}));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
  EXPECT_TRUE(refused.error().message.contains("--device auto is cpu: a prompt and an answer"))
      << refused.error().message;
}

TEST(DeviceAuto, MeasuresWithTheModelItself) {
  const TempDir dir;
  EngineOptions options = reference_options(bundled_model());
  options.device_file = dir.path() / "devices.json";
  EngineDependencies dependencies;
  dependencies.find_devices = [] {
    return std::vector<DeviceInfo>{{.name = "CPU", .description = "a processor"},
                                   {.name = "CPU", .description = "a GPU", .kind = DeviceInfo::Kind::kGpu}};
  };
  const auto measured = open_or_fail(options, dependencies);
  ASSERT_NE(measured, nullptr);
  EXPECT_TRUE(measured->device_choice().contains("tokens/s; CPU ")) << measured->device_choice();
  EXPECT_EQ(measured->stats().prefill.tokens, 0U) << "it was another engine";
}

// Whatever it had in its memory then is not trusted.
TEST(OwnMemory, ADeviceThatFailsEndsWhatItWasAskedForAndIsAskedNoMore) {
  int64_t n_good = INT64_MAX;
  const auto fault = [&]() -> Status {
    if (n_good-- > 0) return {};
    return fail(ErrorKind::kIo, "device lost");
  };
  const auto engine =
      open_or_fail(reference_options(bundled_model()), {.memory_of_its_own = true, .device_fault = fault});
  ASSERT_NE(engine, nullptr);
  const auto session = engine->new_session().value();
  const std::vector<Token> prompt = engine->encode(kText, true, true);
  ASSERT_TRUE(session->evaluate(prompt).has_value());
  EXPECT_TRUE(engine->device_condition().has_value());
  const Token next = 5;
  EXPECT_GT(session->reachable(static_cast<int32_t>(prompt.size())), 0);
  for (const int64_t after : {2, 1000}) {
    n_good = after;
    const Status status = session->evaluate({&next, 1});
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().kind, ErrorKind::kDeviceLost);
    EXPECT_TRUE(status.error().message.contains("the device CPU failed: device lost"))
        << status.error().message;
    EXPECT_EQ(engine->device_condition().error().message, status.error().message);
    EXPECT_EQ(session->tokens().size(), prompt.size());
    EXPECT_EQ(session->reachable(static_cast<int32_t>(prompt.size())), 0) << "may be saved";
  }
}

INSTANTIATE_TEST_SUITE_P(Models, OwnMemoryBits,
                         ::testing::Values("bundled", "qwen3moe", "qwen2moe", "deepseek2"),
                         [](const auto& one) { return test_name(one.param); });

TEST(OwnMemory, AnObserverSeesTheSame) {
  class Observer final : public RoutingObserver {
   public:
    Status on_tokens(const ObservedTokens& tokens) override { return add(tokens.embedding); }
    Status on_layer(const ObservedLayer& layer) override {
      static_cast<void>(add(layer.attention_input)), static_cast<void>(add(layer.router_input));
      return add(layer.weights);
    }
    std::vector<float> seen;

   private:
    Status add(std::span<const float> values) {
      seen.insert(seen.end(), values.begin(), values.end());
      return {};
    }
  };
  std::vector<float> seen[2];
  for (const bool own : {false, true}) {
    const auto engine = open_or_fail(reference_options(bundled_model()), {.memory_of_its_own = own});
    ASSERT_NE(engine, nullptr);
    Observer observer;
    engine->set_routing_observer(&observer);
    auto session = engine->new_session().value();
    EXPECT_TRUE(session->evaluate(engine->encode(kText, true, true)).has_value());
    engine->set_routing_observer(nullptr);
    seen[own ? 1 : 0] = std::move(observer.seen);
  }
  ASSERT_FALSE(seen[0].empty());
  EXPECT_EQ(seen[0], seen[1]);
}

}  // namespace
}  // namespace odmoe::device_memory_test
