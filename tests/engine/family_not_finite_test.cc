// A weight that is not finite ends in an error in families with layers of other kinds, and never in a token
// (see CONTRIBUTING.md for the reference data; tests/engine/not_finite_test.cc has what the errors say).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <span>

#include "temp_dir.h"
#include "tests/engine/changed_bytes.h"
#include "tests/engine/test_models.h"

namespace odmoe::family_not_finite_test {
namespace {

using namespace odmoe::testing;

// Of models/families.
constexpr const char* kFiles[] = {
    "afmoe.F32",         "bailingmoe3.F32", "cohere2moe.F32",     "deepseek32.F32",   "deepseek4.F32",
    "dots3note.F32",     "gemma4.F32",      "glm-dsa-shared.F32", "glm5-next.F32",    "gpt-oss.F32",
    "granitehybrid.F32", "hy_v4.F32",       "jamba.F32",          "k2-horizon.F32",   "kimi-k3.F32",
    "kimi-linear.F32",   "laguna.F32",      "lfm2moe.F32",        "llama4.F32",       "maion-coder.F32",
    "maple.F32",         "mimo2.F32",       "minimax-01.F32",     "minimax-m3.F32",   "nemotron_h_moe.F32",
    "qwen35moe.F32",     "qwen3next.F32",   "qwen4exp.F32",       "smallthinker.F32", "step35.F32"};

class FamilyNotFinite : public ::testing::TestWithParam<const char*> {};

TEST_P(FamilyNotFinite, NoDenseWeightOfALayerGoesUnnoticed) {
  const auto path = shared_file(std::string("models/families/") + GetParam() + ".gguf");
  if (path.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
  const auto checkpoint = open_checkpoint(path);
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  const TempDir dir;
  EngineOptions options = reference_options(dir / "damaged.gguf");
  std::filesystem::copy_file(path, options.model);
  std::filesystem::permissions(options.model, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  std::fstream damaged(options.model, std::ios::binary | std::ios::in | std::ios::out);
  std::vector<Token> tokens;
  for (Token token = 1; token < 24; ++token) tokens.push_back(token);
  for (const TensorInfo& tensor : (*checkpoint)->tensors()) {
    if (!tensor.name.starts_with("blk.") || tensor.name.contains("_exps.weight")) continue;
    for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                              -std::numeric_limits<float>::infinity()}) {
      if (value < 0 && tensor.name.ends_with("exp_probs_b.bias")) continue;  // an expert that is never chosen
      SCOPED_TRACE(::testing::Message() << tensor.name << " " << value);
      const ChangedBytes first(damaged, tensor.offset, std::as_bytes(std::span(&value, 1)));
      const auto engine = EngineImpl::open(options, {}, {});
      if (!engine.has_value()) {
        EXPECT_TRUE(engine.error().message.contains(tensor.name)) << engine.error().message;
        continue;
      }
      const auto one = (*engine)->new_session().value();
      const Status in_a_chunk = one->evaluate(tokens);
      EXPECT_FALSE(in_a_chunk.has_value());
      const Status alone = one->evaluate(std::span(tokens).first(1));
      EXPECT_FALSE(alone.has_value());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, FamilyNotFinite, ::testing::ValuesIn(kFiles),
                         [](const auto& test) { return test_name(test.param); });

}  // namespace
}  // namespace odmoe::family_not_finite_test
