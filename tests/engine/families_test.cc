// Every family of models on tiny ones, against llama.cpp's logits and continuations (see CONTRIBUTING.md for
// the reference data), and against itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "convert/convert.h"
#include "model/arch/architecture.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe {
namespace {

using namespace odmoe::testing;
using ::testing::IsEmpty;

const nlohmann::json& reference() {
  static const nlohmann::json json = [] {
    std::ifstream file(shared_file("models/families/reference.json"));
    return nlohmann::json::parse(file);
  }();
  return json;
}

std::vector<Token> prompt(const char* name) { return reference().at("prompts").at(name).at("tokens"); }

constexpr const char* kFiles[] = {
    "arctic.F32",
    "bailingmoe.F32",
    "bailingmoe2.F32",
    "dbrx.F32",
    "deepseek.F32",
    "deepseek2-large3.F32",
    "deepseek2-merged.F32",
    "dots1.F32",
    "ernie4_5-moe.F32",
    "glm4moe-355b.F32",
    "glm4moe.F32",
    "glm4moe.Q4_K_M",
    "granitemoe-shared.F32",
    "granitemoe.F32",
    "grok.F32",
    "grovemoe.F32",
    "hunyuan-moe.F32",
    "hy_v3.F32",
    "llama-moe.F32",
    "minicpm-moe.F32",
    "minimax-m2.F32",
    "mistral4.F32",
    "olmoe.F32",
    "phimoe.F32",
    "qwen3vlmoe.F32",
};

class Families : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    path_ = shared_file(std::string("models/families/") + GetParam() + ".gguf");
    if (path_.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
  }

  const nlohmann::json& entry() const { return reference().at("files").at(GetParam()); }

  EngineOptions options() const {
    EngineOptions options = reference_options(path_);
    options.context = 512;
    options.flash_attention = FlashAttention::kOff;
    return options;
  }

  // Relative L2 at every position that llama.cpp's logits are known of, in ascending order.
  std::vector<double> errors(const EngineOptions& options, const char* name) const {
    const auto engine = open_or_fail(options);
    if (engine == nullptr) return {};
    const std::vector<size_t> positions = entry().at(name).at("positions");
    const std::string file = entry().at(name).at("logits");
    const std::vector<float> wanted = read_floats(shared_file("models/families/" + file));
    const std::vector<float> got = all_logits(*engine, prompt(name));
    const size_t n_vocab = wanted.size() / positions.size();
    EXPECT_EQ(got.size(), prompt(name).size() * n_vocab);
    std::vector<double> errors;
    for (size_t i = 0; i < positions.size(); ++i) {
      errors.push_back(relative_l2(std::span(got).subspan(positions[i] * n_vocab, n_vocab),
                                   std::span(wanted).subspan(i * n_vocab, n_vocab)));
    }
    std::ranges::sort(errors);
    return errors;
  }

  std::filesystem::path path_;
};

TEST_P(Families, LogitsAreLlamaCppsAtEveryPosition) {
  for (const char* name : {"short", "long"}) {
    const std::vector<double> found = errors(options(), name);
    ASSERT_THAT(found, Not(IsEmpty()));
    RecordProperty(std::string("worst_") + name, std::to_string(found.back()));
    EXPECT_LE(found[found.size() / 2], entry().at("tolerance").at("median").get<double>()) << name;
    EXPECT_LE(found.back(), entry().at("tolerance").at("worst").get<double>()) << name;
  }
}

// What llama.cpp's own flash attention makes of it, which rounds to half precision.
TEST_P(Families, FlashAttentionIsAsNearAsLlamaCpps) {
  EngineOptions options = this->options();
  options.flash_attention = FlashAttention::kOn;
  // Where llama.cpp computes without it all the same (Grok), what the others have.
  const auto noise = entry().at("noise").at("flash attention").get<std::vector<double>>();
  const double median = std::max(2 * noise[0], 1e-3);
  const double worst = std::max(2 * noise[1], 1e-2);
  for (const char* name : {"short", "long"}) {
    const std::vector<double> found = errors(options, name);
    ASSERT_THAT(found, Not(IsEmpty()));
    RecordProperty(std::string("median_") + name, std::to_string(found[found.size() / 2]));
    RecordProperty(std::string("worst_") + name, std::to_string(found.back()));
    EXPECT_LE(found[found.size() / 2], median) << name;
    EXPECT_LE(found.back(), worst) << name;
  }
}

TEST_P(Families, GreedyContinuationsAreLlamaCpps) {
  if (!std::string_view(GetParam()).ends_with("F32")) GTEST_SKIP() << "quantised: rounding decides";
  const auto engine = open_or_fail(options());
  ASSERT_NE(engine, nullptr);
  for (const char* name : {"short", "long"}) {
    auto session = engine->new_session().value();
    ASSERT_TRUE(session->evaluate(prompt(name)).has_value());
    const std::vector<Token> wanted = entry().at(name).at("greedy");
    std::vector<Token> got;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const auto logits = session->logits();
      got.push_back(static_cast<Token>(std::ranges::max_element(logits) - logits.begin()));
      ASSERT_TRUE(session->evaluate({&got.back(), 1}).has_value());
    }
    EXPECT_EQ(got, wanted) << name;
  }
}

// The long prompt in pieces, then what it goes on with.
std::vector<float> logits_of(const EngineOptions& options, uint64_t* misses = nullptr) {
  const auto engine = open_or_fail(options);
  if (engine == nullptr) return {};
  std::vector<float> logits;
  const LogitsSink collect = [&](int32_t, std::span<const float> values) {
    logits.insert(logits.end(), values.begin(), values.end());
  };
  auto session = engine->new_session().value();
  EXPECT_TRUE(session->evaluate(prompt("long"), collect).has_value());
  for (int i = 0; i < 8; ++i) {
    const auto next =
        static_cast<Token>(std::ranges::max_element(session->logits()) - session->logits().begin());
    EXPECT_TRUE(session->evaluate({&next, 1}, collect).has_value());
  }
  if (misses != nullptr) *misses = engine->stats().experts.misses;
  return logits;
}

void expect_same_bits(std::span<const float> got, std::span<const float> wanted) {
  ASSERT_FALSE(wanted.empty());
  ASSERT_EQ(got.size(), wanted.size());
  EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size_bytes()), 0);
}

TEST_P(Families, LogitsAreTheSameBitsAtEveryBudgetAndWithAPredictor) {
  EngineOptions options = this->options();
  options.flash_attention = FlashAttention::kAuto;
  options.cache_type = CacheType::kF16;
  options.chunk = 32;
  uint64_t resident_misses = 0;
  const std::vector<float> wanted = logits_of(options, &resident_misses);
  for (const double percent : {50.0, 0.001}) {
    SCOPED_TRACE(percent);
    options.memory.percent = percent;
    uint64_t misses = 0;
    expect_same_bits(logits_of(options, &misses), wanted);
    EXPECT_GT(misses, resident_misses);
  }
  options.predictor = PredictorKind::kStaleGate;
  options.lookahead = 1;
  expect_same_bits(logits_of(options), wanted);
}

TEST_P(Families, AnExpertDirectoryGivesTheSameBits) {
  const TempDir dir;
  auto checkpoint = open_checkpoint(path_);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  const auto source = make_checkpoint_source(std::move(*checkpoint));
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto plan = plan_conversion(**source, {});
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const auto result = convert(**source, *plan, dir / "model.odmoe", {});
  ASSERT_TRUE(result.has_value()) << result.error().message;
  EngineOptions options = this->options();
  const std::vector<float> wanted = logits_of(options);
  options.model = dir / "model.odmoe";
  options.memory.percent = 30;
  expect_same_bits(logits_of(options), wanted);
}

TEST_P(Families, EverythingInTheFileIsUsedOrPassedOverForAReason) {
  const auto info = Engine::inspect(options());
  ASSERT_TRUE(info.has_value()) << info.error().message;
  for (const LeftOver& left : info->left_over) {
    EXPECT_FALSE(left.refused) << left.name << " " << left.reason;
    EXPECT_FALSE(left.reason.empty()) << left.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Families, ::testing::ValuesIn(kFiles),
                         [](const auto& test) { return test_name(test.param); });

// That a file of a family that is supported is not forgotten above.
TEST(FamiliesOfTheReference, AllThatAreSupportedAreTested) {
  ODMOE_SHARED_OR_SKIP(folder, "models/families");
  for (const auto& [name, entry] : reference().at("files").items()) {
    const std::string architecture = entry.at("architecture");
    if (std::ranges::contains(known_families(), architecture, &FamilyInfo::name)) {
      EXPECT_TRUE(std::ranges::contains(kFiles, name)) << name;
    }
  }
}

}  // namespace
}  // namespace odmoe
