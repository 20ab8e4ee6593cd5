// What sessions promise (tests/engine/state_kinds_test.cc) holds for real families whose state is more than
// the rows of all tokens, to the bit (see CONTRIBUTING.md for the reference data).
#include <gtest/gtest.h>

#include <array>
#include <random>

#include "tests/engine/test_models.h"

namespace odmoe::family_state_test {
namespace {

using namespace odmoe::testing;

// Of models/families, with layers that are recurrent: there are snapshots of what they had.
constexpr const char* kRecurrent[] = {
    "bailingmoe3.F32",     // a delta rule; latent attention
    "glm5-next.F32",       // a delta rule; pools of tokens with a key each
    "granitehybrid.F32",   // Mamba-2
    "jamba.F32",           // Mamba
    "kimi-k3.F32",         // streams that are banked within an evaluation
    "kimi-linear.F32",     // three convolutions and a delta rule with gates per channel; latent attention
    "lfm2moe.F32",         // short convolutions
    "minimax-01.F32",      // lightning attention
    "nemotron_h_moe.F32",  // layers that are one thing
    "qwen35moe.F32",       // a delta net
    "qwen3next.F32",       // a delta net
    "qwen3next.Q4_K_M",
    "qwen4exp.F32",  // a delta net; means of pools of tokens
};

// With windows.
constexpr const char* kWindowed[] = {
    "deepseek4.F32",  // and compressed blocks of two lengths
    "deepseek4.MXFP4",
    "dots3note.F32",  // latent attention; in other layers rows that an indexer chooses
    "gemma4.F32",     // two sizes of heads
    "gpt-oss.F32",    // sinks
    "llama4.F32",     // chunks, of more tokens than there are here
    "mimo2.F32",      // keys and values of two lengths
};

constexpr int32_t kChunk = 16;

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

// Interrupts the engine at the n-th layer with experts that it evaluates from now on.
class Interrupter final : public RoutingObserver {
 public:
  Interrupter(Engine& engine, int layers) : engine_(&engine), left_(layers) {
    engine.set_routing_observer(this);
  }
  ~Interrupter() override {
    engine_->set_routing_observer(nullptr);
    engine_->clear_interrupt();
  }
  Status on_tokens(const ObservedTokens&) override { return {}; }
  Status on_layer(const ObservedLayer&) override {
    if (left_-- == 0) engine_->interrupt();
    return {};
  }

 private:
  Engine* engine_;
  int left_;
};

// With rows alone, of which a layer has more than keys and values.
constexpr const char* kSparse[] = {
    "minimax-m3.F32",  // blocks that an indexer chooses for each KV head
};

class FamilyState : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const auto path = shared_file(std::string("models/families/") + GetParam() + ".gguf");
    if (path.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
    options_ = reference_options(path);
    options_.cache_type = CacheType::kF16;
    options_.context = 600;
    options_.chunk = kChunk;
    options_.sessions = 3;
    engine_ = open_or_fail(options_, {.least_joint_bytes = 0});
    ASSERT_NE(engine_, nullptr);
    std::mt19937 random(11);
    for (int i = 0; i < 500; ++i) text_.push_back(static_cast<Token>(random() % 256));
  }

  std::span<const Token> text(size_t first, size_t n) const { return std::span(text_).subspan(first, n); }
  std::unique_ptr<Session> session() { return engine_->new_session().value(); }
  static void evaluate(Session& session, std::span<const Token> tokens) {
    const Status status = session.evaluate(tokens);
    ASSERT_TRUE(status.has_value()) << status.error().message;
  }
  static void one_by_one(Session& session, std::span<const Token> tokens) {
    for (const Token token : tokens) evaluate(session, {&token, 1});
  }
  // Logits after a text in chunks and then `more` tokens one by one, in a session of its own.
  std::vector<float> fresh(size_t n, size_t more = 0) {
    const auto other = session();
    evaluate(*other, text(0, n));
    one_by_one(*other, text(n, more));
    return copy(other->logits());
  }

  EngineOptions options_;
  std::unique_ptr<EngineImpl> engine_;
  std::vector<Token> text_;
};

class RecurrentFamilyState : public FamilyState {};

TEST_P(RecurrentFamilyState, ATimelineTakenBackGoesOnAsANewOne) {
  EXPECT_FALSE(engine_->model().state_holds_every_length);
  const auto one = session();
  evaluate(*one, text(0, 186));  // 11 chunks and 10 tokens
  one_by_one(*one, text(186, 20));
  EXPECT_EQ(one->truncate(205), 205) << "by one commit";
  one_by_one(*one, text(205, 1));
  EXPECT_EQ(copy(one->logits()), fresh(186, 20));
  EXPECT_EQ(one->truncate(200), 186) << "where generation began";
  one_by_one(*one, text(186, 5));
  EXPECT_EQ(copy(one->logits()), fresh(186, 5));
  EXPECT_EQ(one->truncate(180), 176) << "the last whole chunk";
  evaluate(*one, text(176, 60));
  one_by_one(*one, text(236, 3));
  EXPECT_EQ(copy(one->logits()), fresh(236, 3));
  EXPECT_EQ(one->truncate(100), 0);
  evaluate(*one, text(0, 50));
  EXPECT_EQ(copy(one->logits()), fresh(50));
}

class WindowedFamilyState : public FamilyState {};

// Rows of a window are overwritten once it has gone on by as many as there is room for.
TEST_P(WindowedFamilyState, ATimelineTakenBackGoesOnAsANewOne) {
  EXPECT_FALSE(engine_->model().state_holds_every_length);
  const bool all_held = std::string_view(GetParam()) == "llama4.F32";
  const auto one = session();
  evaluate(*one, text(0, 416));
  one_by_one(*one, text(416, 20));
  EXPECT_EQ(one->truncate(435), 435);
  one_by_one(*one, text(435, 1));
  EXPECT_EQ(copy(one->logits()), fresh(416, 20));
  EXPECT_EQ(one->truncate(320), 320) << "within what is held: the last 256 positions of 436";
  evaluate(*one, text(320, 50));
  one_by_one(*one, text(370, 3));
  EXPECT_EQ(copy(one->logits()), fresh(370, 3));
  // The longest window of DeepSeek-V4 is of the 128 tokens that a block is made from.
  const int32_t first = std::string_view(GetParam()).starts_with("deepseek4") ? 307 : 211;
  EXPECT_EQ(one->truncate(first), first) << "the first whose window is";
  EXPECT_EQ(one->truncate(first - 3), all_held ? first - 3 : 0);
  evaluate(*one, text(one->tokens().size(), 240 - one->tokens().size()));
  EXPECT_EQ(copy(one->logits()), fresh(240));
}

TEST_P(FamilyState, AnEvaluationThatFailsLeavesTheTimelineAsItWas) {
  const auto one = session();
  evaluate(*one, text(0, 90));
  one_by_one(*one, text(90, 7));
  const int n_layer = engine_->model().n_expert_layer;
  for (const int layers : {0, n_layer - 1, n_layer, 3 * n_layer - 1}) {
    const Interrupter interrupter(*engine_, layers);
    const Status failed = one->evaluate(text(97, 60));
    ASSERT_FALSE(failed.has_value());
    EXPECT_EQ(failed.error().kind, ErrorKind::kInterrupted);
    EXPECT_EQ(one->tokens().size(), 97U);
  }
  {
    const Interrupter interrupter(*engine_, n_layer - 1);
    ASSERT_FALSE(one->evaluate(text(97, 1)).has_value());
  }
  one_by_one(*one, text(97, 3));
  EXPECT_EQ(copy(one->logits()), fresh(90, 10));
}

TEST_P(FamilyState, CompanyChangesNothing) {
  const auto one = session();
  const auto two = session();
  evaluate(*one, text(0, 150));
  evaluate(*two, text(0, 33));
  for (size_t i = 0; i < 12; ++i) {
    const std::array<NextToken, 2> next{{{one.get(), text_[150 + i]}, {two.get(), text_[33 + i]}}};
    ASSERT_TRUE(engine_->step(next).has_value());
  }
  EXPECT_EQ(copy(one->logits()), fresh(150, 12));
  EXPECT_EQ(copy(two->logits()), fresh(33, 12));
}

TEST_P(FamilyState, TokensThatAreEvaluatedSinglyHaveTheBitsOfThoseThatCameOneByOne) {
  const auto one = session();
  const auto two = session();
  size_t at = 0;
  for (const size_t n : {50, 3, 16, 16, 33, 9, 150, 16}) {
    const bool read = n > kChunk;
    if (read) {
      evaluate(*one, text(at, n));
      evaluate(*two, text(at, n));
    } else {
      one_by_one(*one, text(at, n));
      ASSERT_TRUE(two->evaluate_singly(text(at, n)).has_value());
    }
    at += n;
    ASSERT_EQ(copy(two->logits()), copy(one->logits())) << "after " << at;
    ASSERT_EQ(two->division(), one->division());
  }
}

TEST_P(FamilyState, WhatIsSavedGoesOnElsewhere) {
  const auto one = session();
  evaluate(*one, text(0, 170));
  one_by_one(*one, text(170, 4));
  options_.context = 400;
  options_.memory.percent = 30;
  const auto other_engine = open_or_fail(options_);
  ASSERT_NE(other_engine, nullptr);
  for (const int32_t n : {160, 170, 174}) {
    ASSERT_EQ(one->reachable(n), n);
    std::vector<std::byte> state(one->state_bytes(n));
    one->save_state(n, state);
    const auto other = other_engine->new_session().value();
    evaluate(*other, text(100, 60));  // it was used before
    Division divided = one->division();
    divided.truncate(n);
    ASSERT_TRUE(other->restore_state(text(0, static_cast<size_t>(n)), n, divided, state).has_value());
    if (n == 160) {
      evaluate(*other, text(160, 10));
      EXPECT_EQ(copy(other->logits()), fresh(170));
    } else {
      one_by_one(*other, text(static_cast<size_t>(n), static_cast<size_t>(180 - n)));
      EXPECT_EQ(copy(other->logits()), fresh(170, 10));
    }
  }
}

TEST_P(FamilyState, BudgetsAndMemoriesChangeNothing) {
  const std::vector<float> wanted = fresh(150, 9);
  for (const double percent : {50.0, 10.0}) {
    for (const bool memory_of_its_own : {false, true}) {
      options_.memory.percent = percent;
      EngineDependencies dependencies;
      dependencies.memory_of_its_own = memory_of_its_own;
      const auto other_engine = open_or_fail(options_, dependencies);
      ASSERT_NE(other_engine, nullptr);
      const auto other = other_engine->new_session().value();
      evaluate(*other, text(0, 150));
      one_by_one(*other, text(150, 9));
      EXPECT_EQ(copy(other->logits()), wanted) << percent << " % " << memory_of_its_own;
    }
  }
}

TEST_P(FamilyState, HowATextIsDividedChangesRoundingOnly) {
  const std::vector<float> wanted = fresh(180);
  for (const int32_t chunk : {1, 7, 180}) {
    options_.chunk = chunk;
    const auto other_engine = open_or_fail(options_);
    ASSERT_NE(other_engine, nullptr);
    const auto other = other_engine->new_session().value();
    evaluate(*other, text(0, 180));
    // Flash attention rounds otherwise where many tokens are computed together.
    const double rounding = !std::string_view(GetParam()).ends_with("F32")                    ? 0.05
                            : std::ranges::contains(kRecurrent, std::string_view(GetParam())) ? 1e-3
                                                                                              : 1e-2;
    EXPECT_LT(relative_l2(other->logits(), wanted), rounding) << chunk;
  }
}

const auto kName = [](const auto& test) { return test_name(test.param); };
INSTANTIATE_TEST_SUITE_P(Recurrent, FamilyState, ::testing::ValuesIn(kRecurrent), kName);
INSTANTIATE_TEST_SUITE_P(Windowed, FamilyState, ::testing::ValuesIn(kWindowed), kName);
INSTANTIATE_TEST_SUITE_P(Sparse, FamilyState, ::testing::ValuesIn(kSparse), kName);
INSTANTIATE_TEST_SUITE_P(Models, RecurrentFamilyState, ::testing::ValuesIn(kRecurrent), kName);
INSTANTIATE_TEST_SUITE_P(Models, WindowedFamilyState, ::testing::ValuesIn(kWindowed), kName);

}  // namespace
}  // namespace odmoe::family_state_test
