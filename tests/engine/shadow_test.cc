// A shadow model beside the engine: it is told and asked while tokens are decoded, and changes none of their
// bits.
#include <gmock/gmock.h>

#include <cstdio>
#include <cstring>
#include <random>

#include "engine/routed_model.h"
#include "format/safetensors.h"
#include "predict/shadow_format.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::shadow_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;

// The next layers' routers on this one's state, as the stale gate has it, beside a trunk of noise.
void write_shadow(const std::filesystem::path& path, const ShadowSpec& spec) {
  const std::vector<RouterWeights> routers = read_routed_model(bundled_model()).value().routers;
  const auto n_embd = static_cast<size_t>(spec.model.n_embd);
  const auto direct = [&](int source, std::span<float> values) {
    std::ranges::fill(values, 0.0F);
    const auto n_input = static_cast<size_t>(spec.n_input(source));
    auto row = values.begin();
    for (int target = source + 1; target <= source + spec.n_ahead(source); ++target) {
      const std::vector<float>& weight = routers[static_cast<size_t>(target)].weight;
      for (auto from = weight.begin(); from != weight.end(); from += static_cast<ptrdiff_t>(n_embd)) {
        std::copy_n(from, n_embd, row);
        row += static_cast<ptrdiff_t>(n_input);
      }
    }
  };
  std::vector<SafetensorsEntry> entries;
  for (const ShadowTensor& tensor : shadow_tensors(spec))
    entries.push_back({tensor.name, "F32", tensor.shape});
  auto writer = SafetensorsWriter::create(path, entries, shadow_metadata(spec)).value();
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.01F);
  for (const SafetensorsEntry& entry : entries) {
    size_t n = 1;
    for (const int64_t dimension : entry.shape) n *= static_cast<size_t>(dimension);
    std::vector<float> values(n);
    for (float& value : values) value = normal(random);
    int source = -1;
    if (entry.name.ends_with("direct.weight") && std::sscanf(entry.name.c_str(), "layer.%d.", &source) == 1) {
      direct(source, values);
    }
    ASSERT_TRUE(writer.append(std::as_bytes(std::span(values))).has_value());
  }
  ASSERT_TRUE(writer.finish().has_value());
}

class Shadow : public ::testing::Test {
 protected:
  void SetUp() override {
    spec_.model = read_routed_model(bundled_model()).value().model;
    spec_.inputs = {ShadowInput::kRouter, ShadowInput::kAttention, ShadowInput::kExperts,
                    ShadowInput::kPrevious};
    spec_.hidden = 32;
    spec_.direct = true;
    spec_.lookahead = 2;
    options_.predictor = PredictorKind::kShadow;
    options_.shadow = folder_.path() / "shadow.safetensors";
    options_.memory.percent = 15;
  }

  TempDir folder_;
  ShadowSpec spec_;
  EngineOptions options_ = reference_options(bundled_model());
};

std::vector<float> logits_of(Engine& engine) {
  auto session = engine.new_session().value();
  std::vector<float> logits;
  const std::string text = "And God said unto the king, thou shalt go to the land that I will shew thee. ";
  for (const Token token : engine.encode(text + text, true, true)) {
    EXPECT_TRUE(session->evaluate({&token, 1}).has_value());
    logits.insert(logits.end(), session->logits().begin(), session->logits().end());
  }
  return logits;
}

TEST_F(Shadow, ChangesNoBit) {
  options_.threads = 1;
  EngineOptions all = reference_options(bundled_model());
  all.threads = 1;
  const auto resident = open_or_fail(all);
  ASSERT_NE(resident, nullptr);
  const std::vector<float> wanted = logits_of(*resident);
  // The large one is asked on a thread of its own, where there is a core for it.
  for (const int32_t hidden : {32, 2048}) {
    SCOPED_TRACE(hidden);
    spec_.hidden = hidden;
    ASSERT_NO_FATAL_FAILURE(write_shadow(options_.shadow, spec_));
    const auto foreseen = open_or_fail(options_);
    ASSERT_NE(foreseen, nullptr);
    const std::vector<float> got = logits_of(*foreseen);
    ASSERT_EQ(got.size(), wanted.size());
    EXPECT_EQ(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)), 0);
    // Nothing is shown by a predictor for which nothing was read.
    EXPECT_GT(foreseen->stats().predictor.prefetched_used, 0U);
  }
}

TEST_F(Shadow, IsNoFurtherAheadThanItWasTrainedFor) {
  ASSERT_NO_FATAL_FAILURE(write_shadow(options_.shadow, spec_));
  for (const int32_t asked : {1, 2, 3, kMaxLookahead}) {
    options_.lookahead = asked;
    const auto engine = open_or_fail(options_);
    ASSERT_NE(engine, nullptr);
    EXPECT_EQ(engine->stats().predictor.ahead.size(), static_cast<size_t>(std::min(asked, spec_.lookahead)));
  }
}

TEST_F(Shadow, IsRefusedForAnotherModelThanItsOwn) {
  spec_.model.fingerprint = "0123456789abcdef";
  ASSERT_NO_FATAL_FAILURE(write_shadow(options_.shadow, spec_));
  const auto engine = EngineImpl::open(options_, {}, {});
  ASSERT_FALSE(engine.has_value());
  EXPECT_THAT(engine.error().message, HasSubstr(options_.shadow.string()));
  EXPECT_THAT(engine.error().message, HasSubstr("trained for"));
}

}  // namespace
}  // namespace odmoe::shadow_test
