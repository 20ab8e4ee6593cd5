// A model one of whose weights is not a number, as every command that evaluates it tells of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <fstream>
#include <limits>

#include "cli/process.h"
#include "runnable_model.h"
#include "temp_dir.h"

namespace odmoe::testing::not_finite_cli_test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(NotFiniteCommandLine, EveryCommandThatEvaluatesEndsWithAnErrorThatNamesTheLayer) {
  const TempDir dir;
  const std::string model = (dir.path() / "damaged.gguf").string();
  const std::string text = (dir.path() / "text.txt").string();
  std::ofstream(text) << std::string(400, 'a');
  const auto bad =
      std::bit_cast<std::array<std::byte, sizeof(float)>>(std::numeric_limits<float>::quiet_NaN());
  GgufWriter writer = runnable_model({.expert_type = GGML_TYPE_Q8_0, .n_embd = 64, .n_ff_exp = 64});
  writer.damage("blk.1.ffn_gate_inp.weight", 0, bad).write(model);
  const std::string output = (dir.path() / "collected").string();
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"run", model, "-t", "1", "-c", "128", "-p", "abc", "-n", "4"},
           {"perplexity", model, "-t", "1", "-c", "64", "-f", text},
           {"bench", "infer", model, "-t", "1", "-n", "4"},
           {"collect", model, "-t", "1", "--corpus", text, "--tokens", "100", "--output", output}}) {
    SCOPED_TRACE(arguments[0]);
    const Outcome outcome = odmoe(arguments);
    EXPECT_EQ(outcome.exit_code, 1) << outcome.out;
    EXPECT_THAT(outcome.err,
                AllOf(HasSubstr("odmoe: "), HasSubstr("not finite"), HasSubstr("layer 1, router")));
    EXPECT_THAT(outcome.out, ::testing::Not(HasSubstr("nan")));
  }
}

}  // namespace
}  // namespace odmoe::testing::not_finite_cli_test
