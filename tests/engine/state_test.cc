// Saved sessions: what is brought back goes on with the same bits, in another session, engine or context.
#include <gtest/gtest.h>

#include <cstring>

#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::state_test {
namespace {

using namespace odmoe::testing;

constexpr std::string_view kText =
    "In the beginning was the word, and the word was with the people of the United States; and it came to "
    "pass that the king said unto his servants, What is the matter? Romeo, thou art a villain";

EngineOptions state_options(CacheType type = CacheType::kF16) {
  EngineOptions options = reference_options(bundled_model());
  options.cache_type = type;
  options.chunk = 16;
  options.sessions = 2;
  return options;
}

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

std::vector<std::byte> saved(const Session& session, int32_t n) {
  std::vector<std::byte> state(session.state_bytes(n));
  session.save_state(n, state);
  return state;
}

struct Case {
  const char* model;  // "bundled", or a name in the reference data
  CacheType type;
};
class State : public ::testing::TestWithParam<Case> {};

// Graphs of single tokens are built for so many rows as are looked at, and used again while those are enough.
TEST(StateOfGraphs, ATimelineThatOutgrowsThemIsSeenAsAWhole) {
  EngineOptions options = state_options();
  options.context = 512;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  std::vector<Token> tokens;
  while (tokens.size() < 300) {
    const std::vector<Token> more = engine->encode(kText, true, true);
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  const auto one = engine->new_session().value();
  const auto anew = engine->new_session().value();
  ASSERT_TRUE(one->evaluate(std::span(tokens).first(96)).has_value());
  ASSERT_TRUE(anew->evaluate(std::span(tokens).first(96)).has_value());
  for (size_t at = 96; at < 300; ++at) {
    ASSERT_TRUE(one->evaluate(std::span(tokens).subspan(at, 1)).has_value());
    // Its graphs are built for this token alone.
    ASSERT_TRUE(anew->evaluate_singly(std::span(tokens).subspan(at, 1)).has_value());
    ASSERT_EQ(copy(one->logits()), copy(anew->logits())) << "after " << at + 1 << " tokens";
  }
}

TEST_P(State, GoesOnBitForBitElsewhere) {
  EngineOptions options = state_options(GetParam().type);
  if (std::string_view(GetParam().model) != "bundled") {
    options.model = shared_file("models/" + std::string(GetParam().model) + ".gguf");
    if (shared_file("models").empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data";
  }
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  std::vector<Token> tokens = engine->encode(kText, true, true);
  ASSERT_GT(tokens.size(), 40U);
  const auto first = engine->new_session().value();
  ASSERT_TRUE(first->evaluate(std::span(tokens).first(32)).has_value());
  ASSERT_EQ(first->division().whole_chunks(), 32);
  const std::vector<std::byte> state = saved(*first, 32);
  const Division divided = first->division();
  ASSERT_TRUE(first->evaluate(std::span(tokens).subspan(32)).has_value());
  const std::vector<float> wanted = copy(first->logits());

  options.context = 512;
  options.memory.percent = 20;
  const auto other = open_or_fail(options);
  ASSERT_NE(other, nullptr);
  const auto second = other->new_session().value();
  ASSERT_TRUE(second->evaluate(std::vector<Token>(50, 7)).has_value());  // something else was there
  ASSERT_TRUE(second->restore_state(std::span(tokens).first(32), 32, divided, state).has_value());
  EXPECT_EQ(second->division().whole_chunks(), 32);
  ASSERT_TRUE(second->evaluate(std::span(tokens).subspan(32)).has_value());
  EXPECT_EQ(copy(second->logits()), wanted);

  // A part of it: the rest is evaluated in the same chunks.
  ASSERT_TRUE(second->restore_state(std::span(tokens).first(32), 16, divided, state).has_value());
  EXPECT_EQ(second->tokens().size(), 16U);
  EXPECT_EQ(second->division().whole_chunks(), 16);
  ASSERT_TRUE(second->evaluate(std::span(tokens).subspan(16)).has_value());
  EXPECT_EQ(copy(second->logits()), wanted);
}

INSTANTIATE_TEST_SUITE_P(Models, State,
                         ::testing::Values(Case{"bundled", CacheType::kF16}, Case{"bundled", CacheType::kF32},
                                           Case{"demo-kimi", CacheType::kF16},
                                           Case{"demo-qwen2moe", CacheType::kQ8_0}),
                         [](const auto& test) {
                           return test_name(std::string(test.param.model) +
                                            std::to_string(static_cast<int>(test.param.type)));
                         });

TEST(WholeChunks, AreThoseFromTheFirstTokenOn) {
  const auto engine = open_or_fail(state_options());
  ASSERT_NE(engine, nullptr);
  const auto session = engine->new_session().value();
  const auto evaluate = [&](size_t n) {
    ASSERT_TRUE(session->evaluate(std::vector<Token>(n, 7)).has_value());
  };
  evaluate(40);
  EXPECT_EQ(session->division().whole_chunks(), 32);
  evaluate(16);  // not where a chunk of a whole prompt would be
  EXPECT_EQ(session->division().whole_chunks(), 32);
  session->truncate(32);
  evaluate(33);
  EXPECT_EQ(session->division().whole_chunks(), 64);
  session->truncate(47);
  EXPECT_EQ(session->division().whole_chunks(), 32);
  session->truncate(5);
  evaluate(1);
  EXPECT_EQ(session->division().whole_chunks(), 0);
}

TEST(EvaluatedSingly, TokensAskForTheExpertsThatTheyShareOnce) {
  const auto engine = open_or_fail(state_options());
  ASSERT_NE(engine, nullptr);
  const std::vector<Token> tokens = engine->encode(kText, true, true);
  const std::span<const Token> read = std::span(tokens).first(20),
                               written = std::span(tokens).subspan(20, 16);
  const auto one = engine->new_session().value();
  ASSERT_TRUE(one->evaluate(read).has_value());
  const Stats begin = engine->stats();
  for (const Token token : written) ASSERT_TRUE(one->evaluate({&token, 1}).has_value());
  const Stats one_by_one = engine->stats();
  const auto two = engine->new_session().value();
  ASSERT_TRUE(two->evaluate(read).has_value());
  const Stats again = engine->stats();
  ASSERT_TRUE(two->evaluate_singly(written).has_value());
  const Stats together = engine->stats();
  EXPECT_EQ(copy(two->logits()), copy(one->logits()));
  EXPECT_EQ(one_by_one.decode.tokens - begin.decode.tokens, 16U);
  EXPECT_EQ(together.decode.tokens, one_by_one.decode.tokens) << "they are read";
  EXPECT_EQ(together.prefill.tokens - again.prefill.tokens, 16U);
  EXPECT_EQ(together.prefill.steps - again.prefill.steps, 1U);
  EXPECT_LT(together.experts.demands - again.experts.demands,
            (one_by_one.experts.demands - begin.experts.demands) * 2 / 3);
}

TEST(StateErrors, BytesThatAreNotTheTokensAreRefused) {
  const auto engine = open_or_fail(state_options());
  ASSERT_NE(engine, nullptr);
  const auto session = engine->new_session().value();
  const std::vector<Token> tokens(32, 7);
  ASSERT_TRUE(session->evaluate(tokens).has_value());
  const std::vector<std::byte> state = saved(*session, 32);
  const auto expect_refused = [&](std::span<const Token> some, int32_t n, int32_t divided,
                                  std::span<const std::byte> bytes, int32_t chunk = 16) {
    ASSERT_TRUE(session->restore_state(tokens, 32, Division::in_chunks(16, 32), state).has_value());
    const Status status = session->restore_state(some, n, Division::in_chunks(chunk, divided), bytes);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().kind, ErrorKind::kUsage);
    EXPECT_TRUE(session->tokens().empty());
  };
  expect_refused(tokens, 32, 32, std::span(state).first(state.size() - 1));
  expect_refused(std::span(tokens).first(31), 31, 16, state);
  expect_refused(tokens, 33, 32, state);
  expect_refused(tokens, 32, 33, state);
  expect_refused(tokens, 32, 32, state, 8);
  expect_refused({}, 0, 0, {});
  const std::vector<Token> strange(32, engine->model().n_vocab);
  expect_refused(strange, 32, 32, state);
}

TEST(StateIdentity, ChangesWithTheModelAndWithWhatChangesBits) {
  const TempDir dir;
  const auto path = dir.path() / "model.gguf";
  std::filesystem::copy_file(bundled_model(), path);
  EngineOptions options = state_options();
  options.model = path;
  const auto identity = [](const EngineOptions& some) {
    const auto engine = open_or_fail(some);
    return engine == nullptr ? "" : engine->state_identity().value();
  };
  const std::string first = identity(options);
  EXPECT_FALSE(first.empty());
  options.memory.percent = 30;
  options.sessions = 3;
  options.context = 512;
  EXPECT_EQ(identity(options), first) << "no bit depends on these";
  EngineOptions other = options;
  other.chunk = 32;
  EXPECT_NE(identity(other), first);
  other = options;
  other.cache_type = CacheType::kF32;
  EXPECT_NE(identity(other), first);
  other = options;
  other.threads = options.threads + 1;
  EXPECT_NE(identity(other), first);
  {  // other weights of the same shapes
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    const auto size = static_cast<std::streamoff>(std::filesystem::file_size(path));
    for (std::streamoff at = size / 2; at < size; at += 1000) {
      file.seekp(at);
      file.put('\x11');
    }
  }
  EXPECT_NE(identity(options), first);
}

}  // namespace
}  // namespace odmoe::state_test
