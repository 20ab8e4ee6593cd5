// Generation on the bundled model: what ends it, what is reused, what happens when the context is full.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "model/blocks/attention.h"
#include "model/state_plan.h"
#include "odmoe/format.h"
#include "tests/engine/test_models.h"

namespace odmoe::generate_test {
namespace {

using namespace odmoe::testing;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::string_view kPrompt = "And God said unto the king,";

class Generate : public ::testing::Test {
 protected:
  void SetUp() override {
    EngineOptions options = reference_options(bundled_model());
    options.context = 128;
    options.memory.percent = 30;
    options.sessions = 2;
    engine_ = open_or_fail(options);
    ASSERT_NE(engine_, nullptr);
    session_ = engine_->new_session().value();
    options_.sampling.temperature = 0;
    options_.max_tokens = 30;
    options_.ignore_eos = true;
    prompt_ = engine_->encode(kPrompt, true, true);
  }

  Result<GenerateResult> run(const TextSink& sink = {}) {
    return engine_->generate(*session_, prompt_, options_, sink);
  }

  std::vector<Token> encode_chat(const std::vector<ChatTurn>& turns) const {
    return engine_->encode_chat({.turns = turns}, *engine_->chat_template({}).value(), {}, {}).value();
  }

  std::unique_ptr<EngineImpl> engine_;
  std::unique_ptr<Session> session_;
  GenerateOptions options_;
  std::vector<Token> prompt_;
};

TEST_F(Generate, StreamsExactlyTheTextThatItReturns) {
  std::string streamed;
  const auto result = run([&](std::string_view piece) {
    streamed += piece;
    return true;
  });
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->text, streamed);
  EXPECT_EQ(result->finish, FinishReason::kLength);
  EXPECT_EQ(result->generated_tokens, 30);
  EXPECT_EQ(result->prompt_tokens, static_cast<int32_t>(prompt_.size()));
  EXPECT_GT(engine_->stats().ttft_ms, 0.0);
}

TEST_F(Generate, TheSameSeedDrawsTheSameTextAndAnotherSeedAnother) {
  options_.sampling = {.temperature = 1.0F, .seed = 5};
  const std::string first = run()->text;
  session_->truncate(0);
  EXPECT_EQ(run()->text, first);
  session_->truncate(0);
  options_.sampling.seed = 6;
  EXPECT_NE(run()->text, first);
}

TEST_F(Generate, AStopStringEndsTheTextBeforeIt) {
  const std::string whole = run()->text;
  const std::string stop = whole.substr(whole.size() / 2, 6);
  session_->truncate(0);
  options_.stop = {stop};
  const auto result = run();
  EXPECT_EQ(result->finish, FinishReason::kStopString);
  EXPECT_EQ(result->text, whole.substr(0, whole.find(stop)));
}

TEST_F(Generate, ASharedPrefixIsNotEvaluatedAgainAndChangesNothing) {
  const std::string first = run()->text;
  const auto again = run();
  EXPECT_EQ(again->reused_tokens, static_cast<int32_t>(prompt_.size()) - 1);
  EXPECT_EQ(again->text, first);
}

TEST_F(Generate, AFullContextStopsWhenAskedTo) {
  options_.max_tokens = -1;
  const auto result = run();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->finish, FinishReason::kContextFull);
  EXPECT_EQ(std::ssize(session_->tokens()), session_->context());
  EXPECT_EQ(result->prompt_tokens + result->generated_tokens, session_->context() + 1);
}

TEST_F(Generate, AShiftedContextIsWhatAFreshSessionWouldMakeOfTheSameText) {
  options_.max_tokens = 300;
  options_.context_overflow = ContextOverflow::kShift;
  const auto result = run();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->finish, FinishReason::kLength);
  EXPECT_EQ(result->generated_tokens, 300);
  // What is kept at the beginning is the prompt.
  const auto tokens = session_->tokens();
  ASSERT_GE(tokens.size(), prompt_.size());
  EXPECT_TRUE(std::ranges::equal(tokens.first(prompt_.size()), prompt_));

  auto fresh = engine_->new_session().value();
  ASSERT_TRUE(fresh->evaluate(tokens).has_value());
  EXPECT_LT(relative_l2(fresh->logits(), session_->logits()), 2e-2);
}

TEST_F(Generate, ASinkThatRefusesEndsIt) {
  int pieces = 0;
  const auto result = run([&](std::string_view) { return ++pieces < 3; });
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->finish, FinishReason::kInterrupted);
  EXPECT_EQ(pieces, 3);
}

TEST_F(Generate, AnInterruptEndsItWithWhatWasMadeAndTheEngineGoesOnAfterwards) {
  options_.max_tokens = -1;
  options_.context_overflow = ContextOverflow::kShift;  // would never end
  int pieces = 0;
  const auto result = run([&](std::string_view) {
    if (++pieces == 5) engine_->interrupt();
    return true;
  });
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->finish, FinishReason::kInterrupted);
  EXPECT_FALSE(result->text.empty());
  engine_->clear_interrupt();
  options_.max_tokens = 3;
  EXPECT_EQ(run()->finish, FinishReason::kLength);
}

TEST_F(Generate, EndTokensEndTheTextUnlessIgnored) {
  options_.ignore_eos = false;
  options_.max_tokens = -1;
  // A conversation: the model was trained on a template, but whatever it says, an end token is never shown.
  const std::vector<ChatTurn> turns = {{.role = "user", .content = "Who art thou?"}};
  prompt_ = encode_chat(turns);
  const auto result = run();
  ASSERT_TRUE(result.has_value());
  EXPECT_THAT(result->text, Not(HasSubstr("<|")));
}

TEST_F(Generate, AChatGoesOnFromTheCacheOfTheTurnBefore) {
  std::vector<ChatTurn> turns = {{.role = "user", .content = "Who art thou?"}};
  prompt_ = encode_chat(turns);
  const auto first = run();
  turns.push_back({.role = "assistant", .content = first->text});
  turns.push_back({.role = "user", .content = "And whence comest thou?"});
  const size_t first_prompt = prompt_.size();
  prompt_ = encode_chat(turns);
  options_.max_tokens = 5;
  const auto second = run();
  ASSERT_TRUE(second.has_value()) << second.error().message;
  EXPECT_GE(second->reused_tokens, static_cast<int32_t>(first_prompt));
}

TEST_F(Generate, ATooLongPromptAndAnEmptyOneAreRefused) {
  prompt_.assign(200, prompt_.front());
  const auto too_long = run();
  ASSERT_FALSE(too_long.has_value());
  EXPECT_EQ(too_long.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(too_long.error().message, HasSubstr("--context"));
  prompt_.clear();
  EXPECT_EQ(run().error().kind, ErrorKind::kUsage);
}

TEST_F(Generate, TokensOutsideTheVocabularyAreRefused) {
  for (const Token token : {-1, engine_->model().n_vocab}) {
    EXPECT_EQ(session_->evaluate({&token, 1}).error().kind, ErrorKind::kUsage);
  }
}

TEST_F(Generate, NoMoreSessionsThanWerePlannedAndAClosedOneMakesRoom) {
  auto second = engine_->new_session();
  ASSERT_TRUE(second.has_value());
  const auto third = engine_->new_session();
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().kind, ErrorKind::kBudget);
  second->reset();
  EXPECT_TRUE(engine_->new_session().has_value());
}

TEST_F(Generate, TwoSessionsDoNotDisturbEachOther) {
  const std::string alone = run()->text;
  session_->truncate(0);
  auto other = engine_->new_session().value();
  std::string texts[2];
  std::thread thread([&] {
    GenerateOptions options = options_;
    texts[1] = engine_->generate(*other, prompt_, options, {}).value().text;
  });
  texts[0] = run()->text;
  thread.join();
  EXPECT_EQ(texts[0], alone);
  EXPECT_EQ(texts[1], alone);
}

// Of a model, prompts of one token, of fewer than make a tile of flash attention's, of some that are made up
// to one, of one, and of more.
class CacheTypes : public ::testing::TestWithParam<const char*> {
 protected:
  static constexpr size_t kLengths[] = {
      1, kLeastTiledQueries - 1, kLeastTiledQueries, kTileQueries - 1, kTileQueries, kTileQueries + 7};

  // After each of the lengths, each in a session of its own; and after the longest, token by token.
  static std::vector<std::vector<float>> logits(EngineImpl& engine, std::span<const Token> tokens) {
    std::vector<std::vector<float>> all;
    const auto keep = [&](const Session& session) {
      all.emplace_back(session.logits().begin(), session.logits().end());
    };
    for (const size_t n : kLengths) {
      const auto session = engine.new_session().value();
      EXPECT_TRUE(session->evaluate(tokens.first(n)).has_value());
      keep(*session);
    }
    const auto session = engine.new_session().value();
    for (const Token token : tokens) EXPECT_TRUE(session->evaluate({&token, 1}).has_value());
    keep(*session);
    return all;
  }
};

TEST_P(CacheTypes, AgreeAsFarAsTheirPrecisionGoes) {
  std::filesystem::path model = bundled_model();
  if (const std::string_view name = GetParam(); name != "demo") {
    model = shared_file(odmoe::format("models/{}.gguf", name));
    if (model.empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << name;
  }
  std::vector<std::vector<float>> wanted;
  for (const CacheType type : {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0}) {
    for (const FlashAttention flash : {FlashAttention::kOff, FlashAttention::kAuto, FlashAttention::kOn}) {
      SCOPED_TRACE(::testing::Message() << ggml_type_name(cache_ggml_type(type)) << ", flash attention "
                                        << static_cast<int>(flash));
      EngineOptions options = reference_options(model);
      options.cache_type = type;
      options.flash_attention = flash;
      // Its keys have 80 values, which are not whole blocks.
      if (type == CacheType::kQ8_0 && GetParam() == std::string_view("demo-kimi")) continue;
      const auto engine = open_or_fail(options);
      ASSERT_NE(engine, nullptr);
      const std::vector<Token> text =
          engine->encode(read_text(std::filesystem::path(ODMOE_SOURCE_DIR) / "README.md"), true, true);
      const auto got = logits(*engine, std::span(text).first(kTileQueries + 7));
      if (wanted.empty()) wanted = got;
      const double rounding = type == CacheType::kQ8_0 || type == CacheType::kBF16 ? 5e-2 : 1e-2;
      std::vector<double> differences = {relative_l2(got.back(), wanted[got.size() - 2])};
      for (size_t i = 0; i < got.size(); ++i) differences.push_back(relative_l2(got[i], wanted[i]));
      std::ranges::sort(differences);
      EXPECT_LT(differences[differences.size() / 2], rounding);
      EXPECT_LT(differences.back(), 0.2);  // where rounding chooses another expert
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CacheTypes, ::testing::Values("demo", "demo-kimi"),
                         [](const auto& test) { return test_name(test.param); });

TEST(Statistics, EachExpertIsAskedForOncePerChunkHoweverSmallTheArena) {
  EngineOptions options = reference_options(bundled_model());
  options.memory.percent = 0.001;
  options.chunk = 16;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  auto session = engine->new_session().value();
  std::vector<Token> tokens = engine->encode(kPrompt, true, true);
  tokens.resize(5);
  uint64_t demands = 0;
  for (int chunk = 0; chunk < 2; ++chunk) {
    const Stats before = engine->stats();
    // Of every position, so that the last layer is computed for all.
    ASSERT_TRUE(session->evaluate(tokens, [](int32_t, std::span<const float>) {}).has_value());
    const Stats after = engine->stats();
    uint64_t distinct = 0;
    for (size_t layer = 0; layer < after.routing.expert_counts.size(); ++layer) {
      for (size_t e = 0; e < after.routing.expert_counts[layer].size(); ++e) {
        distinct += after.routing.expert_counts[layer][e] > before.routing.expert_counts[layer][e] ? 1 : 0;
      }
    }
    demands += distinct;
    EXPECT_EQ(after.experts.demands - before.experts.demands, distinct);
  }
  EXPECT_GT(demands, 0U);
}

TEST(Statistics, CountWhatWasDone) {
  EngineOptions options = reference_options(bundled_model());
  options.memory.percent = 20;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  auto session = engine->new_session().value();
  const std::vector<Token> tokens = engine->encode(kPrompt, true, true);
  ASSERT_TRUE(session->evaluate(tokens).has_value());
  ASSERT_TRUE(session->evaluate({tokens.data(), 1}).has_value());
  const Stats stats = engine->stats();
  const auto n = static_cast<uint64_t>(tokens.size() + 1);
  const ModelInfo& model = engine->model();
  EXPECT_EQ(stats.prefill.tokens, tokens.size());
  EXPECT_EQ(stats.decode.tokens, 1U);
  EXPECT_EQ(stats.routing.total_selections,
            n * static_cast<uint64_t>(model.n_layer) * static_cast<uint64_t>(model.n_expert_used));
  EXPECT_GE(stats.routing.load_balance_coefficient, 1.0);
  EXPECT_GT(stats.routing.auxiliary_loss, 0.5);
  EXPECT_EQ(stats.experts.demands, stats.experts.hits + stats.experts.late_hits + stats.experts.misses);
  EXPECT_GT(stats.io.demand_read_bytes, 0U);
  EXPECT_GT(stats.memory.budget_bytes, stats.memory.arena_bytes);
  EXPECT_LE(stats.memory.minimum_bytes, stats.memory.budget_bytes);
}

}  // namespace
}  // namespace odmoe::generate_test
