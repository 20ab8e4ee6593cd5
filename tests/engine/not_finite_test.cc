// One weight that is not finite: an error that says where that began, and never a token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <fstream>
#include <limits>
#include <memory>

#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/changed_bytes.h"
#include "tests/engine/test_models.h"

namespace odmoe::not_finite_test {
namespace {

using namespace odmoe::testing;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int32_t kChunk = 32;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Bytes that make the first value of a tensor, or the first block's scale, not finite.
std::vector<std::byte> bad_bytes(ggml_type type, float value) {
  if (type == GGML_TYPE_F32) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(float)>>(value);
    return {bytes.begin(), bytes.end()};
  }
  const auto bytes = std::bit_cast<std::array<std::byte, sizeof(ggml_fp16_t)>>(ggml_fp32_to_fp16(value));
  return {bytes.begin(), bytes.end()};
}

struct Case {
  const char* architecture;
  const char* tensor;
  const char* where;
  uint64_t row = 0;        // that is damaged, of all rows of the tensor
  bool is_expert = false;  // all of whose rows `row` of every expert are
};

// The model has layers 0 and 1 (with deepseek2 layer 0 is dense), and 4 experts of which 2 are used.
constexpr std::array kCases = {
    Case{"qwen3moe", "blk.0.attn_norm.weight", "layer 0, attention"},
    Case{"qwen3moe", "blk.0.attn_q.weight", "layer 0, attention"},
    Case{"qwen3moe", "blk.0.attn_v.weight", "layer 0, attention"},
    Case{"qwen3moe", "blk.0.ffn_norm.weight", "layer 0, "},
    Case{"qwen3moe", "blk.0.ffn_gate_inp.weight", "layer 0, router"},
    Case{"qwen3moe", "blk.0.ffn_gate_exps.weight", "layer 0, expert", 3, true},
    Case{"qwen3moe", "blk.0.ffn_up_exps.weight", "layer 0, expert", 0, true},
    Case{"qwen3moe", "blk.0.ffn_down_exps.weight", "layer 0, expert", 7, true},
    Case{"qwen3moe", "blk.1.attn_norm.weight", "layer 1, attention"},
    Case{"qwen3moe", "blk.1.attn_k.weight", "layer 1, attention"},
    Case{"qwen3moe", "blk.1.attn_v.weight", "layer 1, attention"},
    Case{"qwen3moe", "blk.1.attn_output.weight", "layer 1, attention"},
    Case{"qwen3moe", "blk.1.ffn_norm.weight", "layer 1, the norm before its router"},
    Case{"qwen3moe", "blk.1.ffn_gate_inp.weight", "layer 1, router", 2},
    Case{"qwen3moe", "blk.1.ffn_gate_exps.weight", "layer 1, expert", 3, true},
    Case{"qwen3moe", "blk.1.ffn_down_exps.weight", "layer 1, expert", 0, true},
    Case{"qwen3moe", "output_norm.weight", "the output head"},
    Case{"qwen3moe", "output.weight", "the output head", 200},
    Case{"deepseek2", "blk.0.attn_kv_a_mqa.weight", "layer 0, attention"},
    Case{"deepseek2", "blk.0.attn_output.weight", "layer 0, attention"},
    Case{"deepseek2", "blk.0.ffn_gate.weight", "layer 0, feed-forward network"},
    Case{"deepseek2", "blk.0.ffn_down.weight", "layer 0, feed-forward network"},
    Case{"deepseek2", "blk.1.attn_q_a.weight", "layer 1, attention"},
    Case{"deepseek2", "blk.1.ffn_gate_inp.weight", "layer 1, router"},
    Case{"deepseek2", "blk.1.ffn_gate_shexp.weight", "layer 1, shared expert"},
    Case{"deepseek2", "blk.1.ffn_down_shexp.weight", "layer 1, shared expert"},
    Case{"deepseek2", "blk.2.ffn_up_exps.weight", "layer 2, expert", 1, true},
    Case{"qwen2moe", "blk.1.ffn_gate_inp_shexp.weight", "layer 1, shared expert"},
    Case{"qwen2moe", "blk.0.attn_q.weight", "layer 0, attention"},
    Case{"qwen2moe", "blk.0.attn_k.weight", "layer 0, attention"},
    Case{"qwen2moe", "blk.1.attn_k.bias", "layer 1, attention"},
};

RunnableModelOptions model_options(const char* architecture, ggml_type type) {
  return {.architecture = architecture,
          .expert_type = type,
          .dense_type = type,
          .n_expert = 4,
          .n_embd = 256,
          .n_ff_exp = 256};
}

EngineOptions options_for(const std::filesystem::path& path) {
  EngineOptions options = reference_options(path);
  options.chunk = kChunk;
  options.sessions = 3;
  return options;
}

// Where the first value of the damaged row is in the file: in each expert, or once.
std::vector<uint64_t> damaged_offsets(const std::filesystem::path& path, const Case& c) {
  const auto file = open_checkpoint(path).value();
  const TensorInfo* tensor = file->find_tensor(c.tensor);
  EXPECT_NE(tensor, nullptr) << c.tensor;
  if (tensor == nullptr) return {};
  const uint64_t row_bytes = ggml_row_size(tensor->type, tensor->ne[0]);
  std::vector<uint64_t> offsets;
  for (int64_t expert = 0; expert < (c.is_expert ? tensor->ne[2] : 1); ++expert) {
    const uint64_t row = static_cast<uint64_t>(expert * tensor->ne[1]) + c.row;
    offsets.push_back(tensor->offset + row * row_bytes);
  }
  return offsets;
}

// A model in a file with such a tensor, for as long as it lives.
class Damaged {
 public:
  Damaged(const std::filesystem::path& path, const Case& c, float value)
      : file_(path, std::ios::binary | std::ios::in | std::ios::out) {
    const auto checkpoint = open_checkpoint(path).value();
    const std::vector<std::byte> bytes = bad_bytes(checkpoint->find_tensor(c.tensor)->type, value);
    for (const uint64_t offset : damaged_offsets(path, c)) {
      changes_.push_back(std::make_unique<ChangedBytes>(file_, offset, bytes));
    }
  }

 private:
  std::fstream file_;
  std::vector<std::unique_ptr<ChangedBytes>> changes_;
};

void expect_error(const Status& status, const Case& c) {
  ASSERT_FALSE(status.has_value()) << "nothing was said";
  EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
  EXPECT_THAT(status.error().message, AllOf(HasSubstr("not finite"), HasSubstr(c.where)));
}

// In a prompt, in a token alone and in a step of several sessions.
void expect_errors_everywhere(const std::filesystem::path& path, const Case& c,
                              const EngineDependencies& dependencies = {}) {
  const auto engine = open_or_fail(options_for(path), dependencies);
  ASSERT_NE(engine, nullptr);
  const auto session = engine->new_session().value();
  const auto other = engine->new_session().value();
  const std::vector<Token> text = engine->encode(std::string(kChunk + 8, 'a'), true, true);
  {
    SCOPED_TRACE("prompt");
    expect_error(session->evaluate(text), c);
  }
  {
    SCOPED_TRACE("every position of a prompt");
    expect_error(session->evaluate(text,
                                   [](int32_t, std::span<const float> logits) {
                                     EXPECT_TRUE(std::ranges::all_of(
                                         logits, [](float x) { return std::isfinite(x); }));
                                   }),
                 c);
  }
  {
    SCOPED_TRACE("one token");
    expect_error(session->evaluate(std::span(text).first(1)), c);
  }
  {
    SCOPED_TRACE("step");
    expect_error(engine->step(std::array{NextToken{session.get(), text[0]}, NextToken{other.get(), text[1]}}),
                 c);
  }
  EXPECT_TRUE(session->tokens().empty());
  EXPECT_TRUE(other->tokens().empty());
}

class NotFinite : public ::testing::TestWithParam<Case> {};

TEST_P(NotFinite, OneWeightIsAnErrorThatSaysWhereItBegan) {
  const Case& c = GetParam();
  const TempDir dir;
  // Of blocks that ggml rounds what they are multiplied with for, whereby a NaN is lost; and of others.
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K}) {
    const auto path = dir.path() / "damaged.gguf";
    runnable_model(model_options(c.architecture, type)).write(path);
    for (const float value : {kNan, kInfinity, -kInfinity}) {
      SCOPED_TRACE(::testing::Message() << ggml_type_name(type) << ", " << value);
      const Damaged damaged(path, c, value);
      // The step's products joined, or not.
      expect_errors_everywhere(path, c, {.least_joint_bytes = value > 0 ? 0 : DensePass::kLeastJointBytes});
      if (type != GGML_TYPE_Q8_0 || value < 0) continue;
      SCOPED_TRACE("on a device with memory of its own");
      expect_errors_everywhere(path, c, {.memory_of_its_own = true});
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Weights, NotFinite, ::testing::ValuesIn(kCases), [](const auto& test) {
  return test_name(std::string(test.param.architecture) + "_" + test.param.tensor);
});

// The embedding of one token: texts without it are answered, to the last bit, as if nothing were wrong.
TEST(NotFiniteEmbedding, IsAnErrorForTheTextsThatHaveTheToken) {
  const TempDir dir;
  for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K}) {
    SCOPED_TRACE(ggml_type_name(type));
    const auto path = dir.path() / "model.gguf";
    GgufWriter writer = runnable_model(model_options("qwen3moe", type));
    writer.write(path);
    const auto sound = open_or_fail(options_for(path));
    ASSERT_NE(sound, nullptr);
    const std::vector<Token> good = sound->encode("abcabcabc", true, true);
    std::vector<Token> bad = good;
    bad.push_back(sound->encode("z", false, true).back());
    const Case c{"qwen3moe", "token_embd.weight", "the embedding", static_cast<uint64_t>(bad.back())};
    const auto damaged_path = dir.path() / "damaged.gguf";
    writer.write(damaged_path);
    const Damaged damaged(damaged_path, c, kNan);
    const auto engine =
        open_or_fail(options_for(damaged_path),
                     {.least_joint_bytes = type == GGML_TYPE_F32 ? DensePass::kLeastJointBytes : 0});
    ASSERT_NE(engine, nullptr);

    const auto wanted = sound->new_session().value();
    ASSERT_TRUE(wanted->evaluate(good).has_value());
    const auto first = engine->new_session().value();
    const auto second = engine->new_session().value();
    ASSERT_TRUE(first->evaluate(good).has_value());
    ASSERT_TRUE(second->evaluate(good).has_value());
    EXPECT_TRUE(std::ranges::equal(first->logits(), wanted->logits()));

    // In a prompt, with the position; and in a step, in which the other session can go on alone.
    const auto third = engine->new_session().value();
    const Status prompt = third->evaluate(bad);
    expect_error(prompt, c);
    EXPECT_THAT(prompt.error().message, HasSubstr(odmoe::format("position {}", good.size())));
    expect_error(
        engine->step(std::array{NextToken{first.get(), good[1]}, NextToken{second.get(), bad.back()}}), c);
    EXPECT_EQ(first->tokens().size(), good.size());
    EXPECT_EQ(second->tokens().size(), good.size());
    ASSERT_TRUE(engine->step(std::array{NextToken{first.get(), good[1]}}).has_value());
    expect_error(engine->step(std::array{NextToken{second.get(), bad.back()}}), c);
    ASSERT_TRUE(wanted->evaluate(std::span(good).subspan(1, 1)).has_value());
    EXPECT_TRUE(std::ranges::equal(first->logits(), wanted->logits()));
    // Nothing of it is left in the session whose token it was.
    ASSERT_TRUE(engine->step(std::array{NextToken{second.get(), good[1]}}).has_value());
    EXPECT_TRUE(std::ranges::equal(second->logits(), wanted->logits()));
  }
}

TEST(NotFiniteBias, OfARouterIsAnErrorAtLoad) {
  const TempDir dir;
  const auto path = dir.path() / "damaged.gguf";
  for (const float value : {kNan, kInfinity}) {
    GgufWriter writer = runnable_model(model_options("deepseek2", GGML_TYPE_F32));
    writer.write(path);
    const Damaged damaged(path, {"deepseek2", "blk.2.exp_probs_b.bias", ""}, value);
    const auto engine = EngineImpl::open(options_for(path), {});
    ASSERT_FALSE(engine.has_value());
    EXPECT_THAT(engine.error().message, AllOf(HasSubstr("layer 2, router"), HasSubstr("exp_probs_b.bias")));
  }
  // Never to be chosen is something that a bias may say.
  GgufWriter writer = runnable_model(model_options("deepseek2", GGML_TYPE_F32));
  writer.write(path);
  const Damaged damaged(path, {"deepseek2", "blk.2.exp_probs_b.bias", ""}, -kInfinity);
  const auto engine = open_or_fail(options_for(path));
  ASSERT_NE(engine, nullptr);
  EXPECT_TRUE(engine->new_session().value()->evaluate(engine->encode("abc", true, true)).has_value());
}

// Weights may all be finite and what they give not.
TEST(NotFiniteOverflow, OfKeysAndValuesInHalfPrecisionIsAnError) {
  const TempDir dir;
  const auto path = dir.path() / "large.gguf";
  for (const char* tensor : {"blk.0.attn_v.weight", "blk.1.attn_v.weight", "blk.1.attn_k.weight"}) {
    GgufWriter writer = runnable_model(model_options("qwen2moe", GGML_TYPE_F32));
    const std::vector<float> large(256, 1e6F);
    writer.damage(tensor, 0, std::as_bytes(std::span(large)));
    writer.write(path);
    EngineOptions options = options_for(path);
    options.cache_type = CacheType::kF16;
    const Case c{"qwen2moe", tensor, tensor[4] == '0' ? "layer 0, attention" : "layer 1, attention"};
    for (const bool own : {false, true}) {
      const auto engine = open_or_fail(options, {.memory_of_its_own = own});
      ASSERT_NE(engine, nullptr);
      expect_error(engine->new_session().value()->evaluate(engine->encode("abc", true, true)), c);
    }
  }
}

TEST(NotFiniteGeneration, EndsWithTheErrorAndSoDoesPerplexity) {
  const TempDir dir;
  const auto path = dir.path() / "damaged.gguf";
  GgufWriter writer = runnable_model(model_options("qwen3moe", GGML_TYPE_Q8_0));
  const Case c{"qwen3moe", "blk.1.ffn_gate_inp.weight", "layer 1, router"};
  writer.write(path);
  const Damaged damaged(path, c, kNan);
  EngineOptions options = options_for(path);
  options.context = 64;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const auto session = engine->new_session().value();
  const auto generated = engine->generate(*session, engine->encode("abc", true, true), {}, {});
  ASSERT_FALSE(generated.has_value());
  EXPECT_THAT(generated.error().message, HasSubstr(c.where));
  const auto result = perplexity(*engine, std::string(200, 'a'));
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().message, HasSubstr(c.where));
}

}  // namespace
}  // namespace odmoe::not_finite_test
