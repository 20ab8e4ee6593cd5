// The dense part on a real device with memory of its own: the first that ggml finds.  `./dev device` runs
// these on Mesa's lavapipe, a Vulkan device that computes on the processor.
#include <gtest/gtest.h>

#include <cstring>

#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::gpu_test {
namespace {

using namespace odmoe::testing;

constexpr std::string_view kText =
    "In the beginning was the word, and the word was with the people of the United States; and it came to "
    "pass "
    "that the king said unto his servants, What is the matter?";

// Empty: there is none.
std::string first_device() {
  for (const DeviceInfo& device : found_devices()) {
    if (device.kind != DeviceInfo::Kind::kCpu) return device.name;
  }
  return {};
}

#define ODMOE_DEVICE_OR_SKIP(name)         \
  const std::string name = first_device(); \
  if (name.empty())                        \
  GTEST_SKIP() << "ggml finds no device but the processor; ./dev device installs and names one"

std::filesystem::path model_path(const std::string& name) {
  if (name == "bundled") return bundled_model();
  return shared_file("models/" + name + ".gguf");
}

EngineOptions device_options(const std::filesystem::path& model, const std::string& device) {
  EngineOptions options = reference_options(model);
  options.device = device;
  options.chunk = 32;
  return options;
}

Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

void append(std::vector<float>& all, std::span<const float> logits) {
  all.insert(all.end(), logits.begin(), logits.end());
}

void expect_same_bits(std::span<const float> got, std::span<const float> wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_EQ(std::memcmp(got.data(), wanted.data(), wanted.size_bytes()), 0) << relative_l2(got, wanted);
}

// Every position of chunks, then of tokens that follow.
std::vector<float> run(const EngineOptions& options, uint64_t* misses = nullptr, int n_more = 6) {
  const auto engine = open_or_fail(options);
  if (engine == nullptr) return {};
  std::vector<float> logits;
  const LogitsSink collect = [&](int32_t, std::span<const float> values) { append(logits, values); };
  auto session = engine->new_session().value();
  const std::vector<Token> tokens = engine->encode(kText, true, true);
  const Status status = session->evaluate(tokens, collect);
  EXPECT_TRUE(status.has_value()) << status.error().message;
  for (int i = 0; status.has_value() && i < n_more; ++i) {
    const Token next = likeliest(session->logits());
    EXPECT_TRUE(session->evaluate({&next, 1}, collect).has_value());
  }
  if (misses != nullptr) *misses = engine->stats().experts.misses;
  return logits;
}

class OnDevice : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    device_ = first_device();
    if (device_.empty()) GTEST_SKIP() << "ggml finds no device but the processor; ./dev device installs one";
    model_ = model_path(GetParam());
    if (model_.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
  }
  // Of most positions: where two experts are nearly as likely another one may be chosen, which alone makes
  // 3 % of difference in models of random weights.
  void expect_near(std::span<const float> got, std::span<const float> wanted,
                   const std::string& which) const {
    ASSERT_EQ(got.size(), wanted.size());
    ASSERT_FALSE(wanted.empty());
    const auto info = Engine::inspect(reference_options(model_));
    ASSERT_TRUE(info.has_value());
    const auto n_vocab = static_cast<size_t>(info->n_vocab);
    std::vector<double> differences;
    for (size_t at = 0; at < wanted.size(); at += n_vocab) {
      differences.push_back(relative_l2(got.subspan(at, n_vocab), wanted.subspan(at, n_vocab)));
    }
    std::ranges::sort(differences);
    const double median = differences[differences.size() / 2];
    RecordProperty("median" + which, odmoe::format("{:.2g}", median));
    RecordProperty("most" + which, odmoe::format("{:.2g}", differences.back()));
    EXPECT_LE(median, std::string_view(GetParam()).ends_with("F32") ? 5e-3 : 5e-2);
    EXPECT_LE(differences.back(), 0.5);
  }
  std::string device_;
  std::filesystem::path model_;
};

// Of a chunk Vulkan's kernels multiply in half precision, unless GGML_VK_DISABLE_F16 is set; the processor's
// round what they multiply with quantised weights, Vulkan's do not.  Measured on lavapipe: docs/devices.md.
TEST_P(OnDevice, LogitsAreThoseOfTheProcessorButForRounding) {
  const std::vector<float> wanted = run(device_options(model_, "cpu"), nullptr, 0);
  for (const FlashAttention flash : {FlashAttention::kOff, FlashAttention::kOn}) {
    EngineOptions options = device_options(model_, device_);
    options.flash_attention = flash;
    const std::vector<float> got = run(options, nullptr, 0);
    expect_near(got, wanted, flash == FlashAttention::kOff ? "" : "_flash");
  }
}

// As tokens that are written: one at a time.
TEST_P(OnDevice, SoAreThoseOfTokensAlone) {
  const auto logits = [&](const std::string& device) {
    std::vector<float> all;
    const auto engine = open_or_fail(device_options(model_, device));
    if (engine == nullptr) return all;
    const auto session = engine->new_session().value();
    for (const Token token : {3, 14, 15, 9, 26, 5, 7, 11, 12}) {
      EXPECT_TRUE(session->evaluate({&token, 1}).has_value());
      append(all, session->logits());
    }
    return all;
  };
  const std::vector<float> wanted = logits("cpu"), got = logits(device_);
  expect_near(got, wanted, "");
}

TEST_P(OnDevice, NeitherBudgetNorPolicyNorPredictorNorReaderChangesABit) {
  EngineOptions options = device_options(model_, device_);
  options.predictor = PredictorKind::kNone;
  options.reader = ReaderChoice::kPread;
  uint64_t resident_misses = 0;
  const std::vector<float> wanted = run(options, &resident_misses);
  ASSERT_FALSE(wanted.empty());
  options.reader = ReaderChoice::kAuto;
  options.predictor = PredictorKind::kStaleGate;
  options.policy = PolicyKind::kLru;
  for (const double percent : {40.0, 0.001}) {
    options.memory.percent = percent;
    uint64_t misses = 0;
    expect_same_bits(run(options, &misses), wanted);
    EXPECT_GT(misses, resident_misses);
  }
}

// Alone, as a lane of a step, among tokens that are evaluated singly, and beside another prompt.
TEST_P(OnDevice, CompanyChangesNoBit) {
  EngineOptions options = device_options(model_, device_);
  options.sessions = 3;
  options.prompts = 2;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const std::vector<Token> prompt = engine->encode(kText, true, true);
  const std::span<const Token> chunk = std::span(prompt).first(20);
  const auto alone = engine->new_session().value();
  std::vector<float> wanted;
  ASSERT_TRUE(alone->evaluate(chunk).has_value());
  append(wanted, alone->logits());
  const std::array<Token, 4> more = {5, 17, 3, 9};
  for (const Token token : more) {
    ASSERT_TRUE(alone->evaluate({&token, 1}).has_value());
    append(wanted, alone->logits());
  }
  const auto other = engine->new_session().value(), third = engine->new_session().value();
  std::vector<float> got;
  const std::array parts = {NextTokens{.session = other.get(), .tokens = std::span(prompt).subspan(3, 17)},
                            NextTokens{.session = third.get(), .tokens = chunk}};
  ASSERT_TRUE(engine->advance(parts).has_value());
  append(got, third->logits());
  for (const Token token : more) {
    const std::array batch = {NextToken{.session = other.get(), .token = 7},
                              NextToken{.session = third.get(), .token = token}};
    ASSERT_TRUE(engine->step(batch).has_value());
    append(got, third->logits());
  }
  expect_same_bits(got, wanted);

  std::vector<float> singly(wanted.begin(), wanted.begin() + engine->model().n_vocab);
  other->truncate(0);
  ASSERT_TRUE(other->evaluate(chunk).has_value());
  ASSERT_TRUE(
      other->evaluate_singly(more, [&](int32_t, std::span<const float> values) { append(singly, values); })
          .has_value());
  expect_same_bits(singly, wanted);
}

TEST_P(OnDevice, WhatWasSavedGoesOnAlike) {
  EngineOptions options = device_options(model_, device_);
  options.sessions = 2;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const auto one = engine->new_session().value(), two = engine->new_session().value();
  ASSERT_TRUE(one->evaluate(engine->encode(kText, true, true)).has_value());
  const auto n = static_cast<int32_t>(one->tokens().size());
  std::vector<std::byte> state(one->state_bytes(n));
  one->save_state(n, state);
  ASSERT_TRUE(two->restore_state(one->tokens(), n, one->division(), state).has_value());
  const Token next = likeliest(one->logits());
  ASSERT_TRUE(one->evaluate({&next, 1}).has_value());
  ASSERT_TRUE(two->evaluate({&next, 1}).has_value());
  expect_same_bits(two->logits(), one->logits());
}

INSTANTIATE_TEST_SUITE_P(Models, OnDevice,
                         ::testing::Values("bundled", "arch/deepseek-v3.F32", "arch/qwen2moe.F32",
                                           "arch/qwen3moe.F32", "arch/qwen3moe.Q4_K_M"),
                         [](const auto& test) { return test_name(test.param); });

// Routed experts there too.
struct Placed {
  const char* model;
  ExpertPlacement placement;
};

class ExpertsOnDevice : public ::testing::TestWithParam<Placed> {
 protected:
  void SetUp() override {
    device_ = first_device();
    if (device_.empty()) GTEST_SKIP() << "ggml finds no device but the processor; ./dev device installs one";
    model_ = model_path(GetParam().model);
    if (model_.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam().model;
    if (GetParam().placement == ExpertPlacement::kInPlace &&
        !Backend::create({.device = device_}).value()->reads_host_memory())
      GTEST_SKIP() << device_ << " does not compute on memory of the host";
  }
  EngineOptions options() const {
    EngineOptions options = device_options(model_, device_);
    options.experts = GetParam().placement;
    return options;
  }
  std::string device_;
  std::filesystem::path model_;
};

// Where two experts are nearly as likely another one may be chosen: see OnDevice.
TEST_P(ExpertsOnDevice, LogitsAreThoseOfTheProcessorButForRounding) {
  const std::vector<float> wanted = run(device_options(model_, "cpu"), nullptr, 0);
  const std::vector<float> got = run(options(), nullptr, 0);
  ASSERT_EQ(got.size(), wanted.size());
  ASSERT_FALSE(wanted.empty());
  const auto n_vocab = static_cast<size_t>(Engine::inspect(options())->n_vocab);
  std::vector<double> differences;
  for (size_t at = 0; at < wanted.size(); at += n_vocab) {
    differences.push_back(
        relative_l2(std::span(got).subspan(at, n_vocab), std::span(wanted).subspan(at, n_vocab)));
  }
  std::ranges::sort(differences);
  const double median = differences[differences.size() / 2];
  RecordProperty("median", odmoe::format("{:.2g}", median));
  RecordProperty("most", odmoe::format("{:.2g}", differences.back()));
  EXPECT_LE(median, std::string_view(GetParam().model).ends_with("F32") ? 5e-3 : 5e-2);
  EXPECT_LE(differences.back(), 0.5);
}

TEST_P(ExpertsOnDevice, NeitherBudgetNorPolicyNorPredictorNorReaderChangesABit) {
  EngineOptions options = this->options();
  options.predictor = PredictorKind::kNone;
  options.reader = ReaderChoice::kPread;
  uint64_t resident_misses = 0;
  const std::vector<float> wanted = run(options, &resident_misses);
  ASSERT_FALSE(wanted.empty());
  MemoryPlan::Device plan;
  if (const auto engine = open_or_fail(options)) plan = engine->plan().device;
  options.reader = ReaderChoice::kAuto;
  options.predictor = PredictorKind::kStaleGate;
  options.policy = PolicyKind::kLru;
  for (const double percent : {40.0, 0.001}) {
    options.memory.percent = percent;
    if (plan.arena_bytes > 0) options.device_memory_bytes = plan.bytes() - plan.arena_bytes * 3 / 5;
    uint64_t misses = 0;
    expect_same_bits(run(options, &misses), wanted);
    EXPECT_GT(misses, resident_misses);
  }
}

TEST_P(ExpertsOnDevice, CompanyChangesNoBit) {
  EngineOptions options = this->options();
  options.sessions = 2;
  options.prompts = 2;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const std::vector<Token> prompt = engine->encode(kText, true, true);
  const std::span<const Token> chunk = std::span(prompt).first(20);
  std::vector<float> wanted;
  {
    const auto alone = engine->new_session().value();
    ASSERT_TRUE(alone->evaluate(chunk).has_value());
    append(wanted, alone->logits());
    for (const Token token : {5, 17, 3}) {
      ASSERT_TRUE(alone->evaluate({&token, 1}).has_value());
      append(wanted, alone->logits());
    }
  }
  const auto one = engine->new_session().value(), other = engine->new_session().value();
  std::vector<float> got;
  const std::array parts = {NextTokens{.session = other.get(), .tokens = std::span(prompt).subspan(3, 17)},
                            NextTokens{.session = one.get(), .tokens = chunk}};
  ASSERT_TRUE(engine->advance(parts).has_value());
  append(got, one->logits());
  for (const Token token : {5, 17, 3}) {
    const std::array batch = {NextToken{.session = other.get(), .token = 7},
                              NextToken{.session = one.get(), .token = token}};
    ASSERT_TRUE(engine->step(batch).has_value());
    append(got, one->logits());
  }
  expect_same_bits(got, wanted);
}

INSTANTIATE_TEST_SUITE_P(Models, ExpertsOnDevice,
                         ::testing::Values(Placed{"bundled", ExpertPlacement::kInPlace},
                                           Placed{"bundled", ExpertPlacement::kDevice},
                                           Placed{"arch/deepseek-v3.F32", ExpertPlacement::kInPlace},
                                           Placed{"arch/deepseek-v3.F32", ExpertPlacement::kDevice},
                                           Placed{"arch/qwen2moe.F32", ExpertPlacement::kInPlace},
                                           Placed{"arch/qwen2moe.F32", ExpertPlacement::kDevice},
                                           Placed{"arch/qwen3moe.Q4_K_M", ExpertPlacement::kInPlace},
                                           Placed{"arch/qwen3moe.Q4_K_M", ExpertPlacement::kDevice}),
                         [](const auto& test) {
                           return test_name(test.param.model) +
                                  (test.param.placement == ExpertPlacement::kInPlace ? "_in_place"
                                                                                     : "_in_an_arena");
                         });

TEST(Device, IsPlannedForAndBounded) {
  ODMOE_DEVICE_OR_SKIP(device);
  EngineOptions options = device_options(bundled_model(), device);
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const MemoryPlan::Device plan = engine->plan().device;
  EXPECT_EQ(plan.name, device);
  EXPECT_GT(plan.dense_bytes, 0U);
  EXPECT_GT(plan.kv_bytes, 0U);
  EXPECT_GT(plan.buffer_bytes, 0U);
  EXPECT_EQ(engine->plan().dense_bytes, 0U);
  options.device_memory_bytes = plan.bytes();
  EXPECT_NE(open_or_fail(options), nullptr);
  options.device_memory_bytes = plan.bytes() - 1;
  const auto refused = EngineImpl::open(options, {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kBudget);
  EXPECT_TRUE(refused.error().message.contains(device)) << refused.error().message;
}

// One graph for each part between the experts, one exchange each way, and for each the host waits once.
TEST(Device, IsAskedOnceBetweenLayersOfExperts) {
  ODMOE_DEVICE_OR_SKIP(device);
  EngineOptions options = device_options(bundled_model(), device);
  options.predictor = PredictorKind::kNone;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const auto session = engine->new_session().value();
  ASSERT_TRUE(session->evaluate(engine->encode(kText, true, true)).has_value());
  const Token next = likeliest(session->logits());
  const Stats::Phase before = engine->stats().decode;
  ASSERT_TRUE(session->evaluate({&next, 1}).has_value());
  const Stats::Phase after = engine->stats().decode;
  const Decoder& decoder = engine->decoder();
  const auto n_layer = static_cast<uint64_t>(decoder.expert_layers().size());
  const uint64_t n_shared = decoder.shape().shared.n_ff > 0 ? n_layer : 0;
  EXPECT_EQ(after.device.graphs - before.device.graphs, n_layer + 1 + n_shared + 1);
  EXPECT_EQ(after.device.waits - before.device.waits, after.device.graphs - before.device.graphs);
  const auto n_embd = static_cast<uint64_t>(decoder.shape().n_embd);
  const auto n_used = static_cast<uint64_t>(decoder.shape().router.n_expert_used);
  EXPECT_GE(after.device.sent_bytes - before.device.sent_bytes,
            n_layer * n_used * (n_embd + 1) * sizeof(float));
  EXPECT_GT(after.device.operations, before.device.operations);
  EXPECT_EQ(after.layers - before.layers, n_layer);
  const DeviceTraffic layers = after.device_layers.since(before.device_layers);
  EXPECT_EQ(layers.graphs, n_layer + n_shared);
  EXPECT_EQ(layers.waits, layers.graphs - (n_shared > 0 ? 1 : 0))
      << "the last shared expert's comes after it";
  EXPECT_EQ(layers.sent_bytes, n_layer * n_used * (n_embd + 1) * sizeof(float));
}

TEST(Device, ValuesThatAreNotFiniteAreFoundThere) {
  ODMOE_DEVICE_OR_SKIP(device);
  const auto engine = open_or_fail(device_options(bundled_model(), device));
  ASSERT_NE(engine, nullptr);
  ggml_tensor* router = engine->decoder().router(1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  ASSERT_EQ(router->type, GGML_TYPE_F32);
  ggml_backend_tensor_set(router, &nan, 0, sizeof(nan));
  const auto session = engine->new_session().value();
  const Status status = session->evaluate(engine->encode(kText, true, true));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
  EXPECT_TRUE(status.error().message.contains(
      odmoe::format("layer {}, router", engine->decoder().expert_layers()[1])))
      << status.error().message;
}

// What is measured with made-up speeds is in src/engine/choose_device_test.cc.
TEST(Device, AutoIsNoneThatComputesOnTheProcessor) {
  ODMOE_DEVICE_OR_SKIP(device);
  for (const DeviceInfo& found : found_devices()) {
    if (found.kind != DeviceInfo::Kind::kCpu && !found.is_software) GTEST_SKIP() << found.name << " is a GPU";
  }
  const TempDir dir;
  EngineOptions options = device_options(bundled_model(), "auto");
  options.device_file = dir.path() / "devices.json";
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->plan().device.name, "");
  EXPECT_EQ(engine->device_choice(), "");
  EXPECT_FALSE(std::filesystem::exists(options.device_file));
}

}  // namespace
}  // namespace odmoe::gpu_test
