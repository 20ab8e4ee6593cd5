// Of the last layer, what no logit depends on is neither read nor computed, and what is has the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::last_layer_test {
namespace {

using namespace odmoe::testing;

constexpr std::string_view kText = "the quick brown fox jumps over the lazy dog, 42 times and once more";

struct Evaluated {
  std::vector<float> last;  // logits
  std::vector<float> next;  // of one token more
  uint64_t demands = 0;
};

class LastLayer : public ::testing::TestWithParam<std::string> {
 protected:
  static EngineOptions options(const std::filesystem::path& model, double percent) {
    EngineOptions options = reference_options(model);
    options.memory.percent = percent;
    options.chunk = 16;
    return options;
  }

  static Evaluated evaluate(const EngineOptions& options, bool every_position) {
    const auto engine = open_or_fail(options);
    if (engine == nullptr) return {};
    auto session = engine->new_session().value();
    const std::vector<Token> tokens = engine->encode(kText, true, true);
    EXPECT_GT(tokens.size(), 3U * 16);
    const LogitsSink sink = [](int32_t, std::span<const float>) {};
    EXPECT_TRUE((every_position ? session->evaluate(tokens, sink) : session->evaluate(tokens)).has_value());
    Evaluated result{.last = {session->logits().begin(), session->logits().end()}};
    result.demands = engine->stats().experts.demands;
    EXPECT_TRUE(session->evaluate({&tokens[1], 1}).has_value());
    result.next.assign(session->logits().begin(), session->logits().end());
    return result;
  }
};

TEST_P(LastLayer, IsComputedForTheLogitsThatAreAskedForWithTheSameBits) {
  TempDir dir;
  const auto model = dir / "model.gguf";
  RunnableModelOptions made{.architecture = GetParam().c_str()};
  made.expert_type = GGML_TYPE_Q4_K;  // whose kernels round by the number of rows
  made.n_embd = made.n_ff_exp = 256;
  runnable_model(made).write(model);
  const Evaluated every = evaluate(options(model, 100), /*every_position=*/true);
  for (const double percent : {100.0, 30.0}) {
    SCOPED_TRACE(::testing::Message() << percent << " % of the experts");
    const Evaluated last = evaluate(options(model, percent), /*every_position=*/false);
    EXPECT_EQ(last.last, every.last);
    EXPECT_EQ(last.next, every.next);
    EXPECT_LT(last.demands, every.demands);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, LastLayer, ::testing::Values("qwen3moe", "deepseek2"),
                         [](const auto& family) { return family.param; });

}  // namespace
}  // namespace odmoe::last_layer_test
