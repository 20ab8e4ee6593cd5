// Golden tests against llama.cpp's logits and perplexities (see CONTRIBUTING.md for the reference data).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/engine/test_models.h"

namespace odmoe::reference_test {
namespace {

using namespace odmoe::testing;

struct Reference {
  std::string prompt;
  std::vector<Token> tokens;
};

Reference reference() {
  std::ifstream file(shared_file("models/arch/reference.json"));
  const auto json = nlohmann::json::parse(file);
  return {json.at("prompt"), json.at("tokens")};
}

class ReferenceLogits : public ::testing::TestWithParam<const char*> {};

TEST_P(ReferenceLogits, LastTokenIsWithinTolerance) {
  const std::string name = GetParam();
  ODMOE_SHARED_OR_SKIP(model, "models/" + name + ".gguf");
  const std::vector<float> wanted = read_floats(shared_file("models/" + name + ".logits.f32"));
  const bool exact = name.ends_with("F32");
  for (const FlashAttention flash : {FlashAttention::kOff, FlashAttention::kOn}) {
    EngineOptions options = reference_options(model);
    options.flash_attention = flash;
    const auto engine = open_or_fail(options);
    ASSERT_NE(engine, nullptr);
    const Reference ref = reference();
    EXPECT_EQ(engine->encode(ref.prompt, true, true), ref.tokens);
    auto session = engine->new_session().value();
    ASSERT_TRUE(session->evaluate(ref.tokens).has_value());
    const double l2 = relative_l2(session->logits(), wanted);
    const double kl = kl_divergence(session->logits(), wanted);
    RecordProperty(flash == FlashAttention::kOn ? "l2_flash" : "l2", std::to_string(l2));
    EXPECT_LE(l2, exact ? 1e-4 : 5e-2);
    EXPECT_LE(kl, 1e-3);
  }
}

TEST_P(ReferenceLogits, TokenByTokenEqualsOneChunk) {
  const std::string name = GetParam();
  ODMOE_SHARED_OR_SKIP(model, "models/" + name + ".gguf");
  EngineOptions options = reference_options(model);
  options.flash_attention = FlashAttention::kOff;
  options.sessions = 2;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const std::vector<Token> tokens = reference().tokens;
  auto chunk = engine->new_session().value();
  ASSERT_TRUE(chunk->evaluate(tokens).has_value());
  auto single = engine->new_session().value();
  for (const Token token : tokens) ASSERT_TRUE(single->evaluate({&token, 1}).has_value());
  const double l2 = relative_l2(single->logits(), chunk->logits());
  // Quantised weights round the activations; llama.cpp's own figures for them are in reference.json.
  EXPECT_LE(l2, name.ends_with("F32") ? 1e-5 : 5e-2);
}

INSTANTIATE_TEST_SUITE_P(Models, ReferenceLogits,
                         ::testing::Values("arch/kimi-k2.F32", "arch/deepseek-v3.F32",
                                           "arch/deepseek-v2-lite.F32", "arch/qwen2moe.F32",
                                           "arch/qwen3moe.F32", "arch/qwen3moe.Q4_K_M",
                                           "arch/qwen3moe.Q3_K_M", "arch/qwen3moe.Q2_K",
                                           "arch/qwen3moe.IQ4_XS", "demo-kimi", "demo-qwen2moe"),
                         [](const auto& test) { return test_name(test.param); });

class ReferencePerplexity : public ::testing::TestWithParam<std::pair<const char*, double>> {};

TEST_P(ReferencePerplexity, IsWithinHalfAPercentOfLlamaPerplexity) {
  const auto& [name, wanted] = GetParam();
  ODMOE_SHARED_OR_SKIP(model, std::string("models/") + name + ".gguf");
  EngineOptions options = reference_options(model);
  options.cache_type = CacheType::kF16;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const auto result = perplexity(*engine, read_text(shared_file("models/val.txt")));
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EXPECT_NEAR(result->perplexity, wanted, 0.005 * wanted);
  EXPECT_GT(result->standard_error, 0.0);
}

INSTANTIATE_TEST_SUITE_P(DemoModels, ReferencePerplexity,
                         ::testing::Values(std::pair("demo-kimi", 30.3483),
                                           std::pair("demo-qwen2moe", 24.4814)),
                         [](const auto& test) { return std::string(test.param.first).replace(4, 1, "_"); });

}  // namespace
}  // namespace odmoe::reference_test
