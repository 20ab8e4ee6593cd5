// Several sessions in one pass: each gets, bit for bit, what it gets alone, and experts are read for all of
// them at once.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>
#include <utility>

#include "expert_types.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"

namespace odmoe::batch_test {
namespace {

using namespace odmoe::testing;

constexpr int kSessions = 5;
constexpr int kTokens = 24;  // that each session writes

constexpr std::array<std::string_view, kSessions> kPrompts = {
    "In the beginning was the word", "KING RICHARD: A horse, a horse! my kingdom for a horse",
    "We the people of the United States, in order to form a more perfect union, establish justice", "1776",
    "In the beginning was the word"};

Token likeliest(std::span<const float> logits) {
  return static_cast<Token>(std::ranges::max_element(logits) - logits.begin());
}

// What one session says, and the logits of every token of it.
struct Said {
  std::vector<Token> tokens;
  std::vector<std::vector<float>> logits;
};

std::vector<Token> prompt_of(const EngineImpl& engine, size_t i) {
  // Of different lengths, some longer than a chunk, one beyond the first rows of the KV cache.
  const size_t times = engine.model().n_vocab < 300 ? 1 : i == 2 ? 14 : i + 1;  // or each byte is a token
  std::string text;
  for (size_t n = 0; n < times; ++n) text += std::string(kPrompts[i]) + " ";
  return engine.encode(text, true, true);
}

Said alone(EngineImpl& engine, size_t i) {
  Said said;
  auto session = engine.new_session().value();
  EXPECT_TRUE(session->evaluate(prompt_of(engine, i)).has_value());
  for (int t = 0; t < kTokens; ++t) {
    said.logits.emplace_back(session->logits().begin(), session->logits().end());
    said.tokens.push_back(likeliest(session->logits()));
    EXPECT_TRUE(session->evaluate({&said.tokens.back(), 1}).has_value());
  }
  return said;
}

std::vector<Said> all_alone(const EngineOptions& options) {
  std::vector<Said> said;
  const auto engine = open_or_fail(options);
  for (size_t i = 0; engine != nullptr && i < kSessions; ++i) said.push_back(alone(*engine, i));
  return said;
}

bool same(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

// Of a model as small as these the products of several sessions are joined only if it is asked for.
EngineDependencies joining(unsigned seed) {
  EngineDependencies dependencies;
  if (seed % 4 != 0) dependencies.least_joint_bytes = 0;
  return dependencies;
}

// Sessions join and leave by chance: in each step every one that has not finished is there with probability
// 0.7, in any order, and prompts are evaluated between steps.
void expect_same_in_batches(const EngineOptions& options, const std::vector<Said>& wanted, unsigned seed) {
  const auto engine = open_or_fail(options, joining(seed));
  ASSERT_NE(engine, nullptr);
  std::mt19937 random(seed);
  std::vector<std::unique_ptr<Session>> sessions(kSessions);
  std::vector<size_t> done(kSessions);
  std::array<bool, kSessions + 1> seen{};  // sizes of batches
  size_t left = kSessions;
  while (left > 0) {
    std::vector<size_t> present;
    for (size_t i = 0; i < kSessions; ++i) {
      if (done[i] == kTokens || random() % 10 >= 7) continue;
      if (sessions[i] == nullptr) {
        sessions[i] = engine->new_session().value();
        ASSERT_TRUE(sessions[i]->evaluate(prompt_of(*engine, i)).has_value());
      }
      present.push_back(i);
    }
    std::ranges::shuffle(present, random);
    std::vector<NextToken> batch;
    for (const size_t i : present) {
      ASSERT_TRUE(same(sessions[i]->logits(), wanted[i].logits[done[i]]))
          << "session " << i << ", token " << done[i];
      batch.push_back({.session = sessions[i].get(), .token = wanted[i].tokens[done[i]]});
    }
    if (batch.empty()) continue;
    seen[batch.size()] = true;
    const Status status = engine->step(batch);
    ASSERT_TRUE(status.has_value()) << status.error().message;
    for (const size_t i : present) left -= ++done[i] == kTokens ? 1 : 0;
  }
  EXPECT_GE(std::ranges::count(seen, true), 3) << "batches of different sizes";
}

EngineOptions batch_options(const std::filesystem::path& model) {
  EngineOptions options = reference_options(model);
  options.cache_type = CacheType::kF16;
  options.context = 512;
  options.chunk = 32;
  options.sessions = kSessions;
  return options;
}

class Batch : public ::testing::TestWithParam<const char*> {
 protected:
  static std::filesystem::path model() {
    const std::string name = GetParam();
    return name == "bundled" ? bundled_model() : shared_file("models/" + name + ".gguf");
  }
};

TEST_P(Batch, EachSessionGetsTheBitsThatItGetsAloneAtAnyBudget) {
  if (model().empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
  EngineOptions options = batch_options(model());
  const std::vector<Said> wanted = all_alone(options);
  ASSERT_EQ(wanted.size(), kSessions);
  unsigned seed = 0;
  for (const double percent : {100.0, 40.0, 10.0, 0.001}) {
    SCOPED_TRACE(::testing::Message() << percent << " % of the experts");
    options.memory.percent = percent;
    options.policy = seed < 2 ? PolicyKind::kForecast : PolicyKind::kLayerLru;
    options.predictor = seed % 2 == 0 ? PredictorKind::kStaleGate : PredictorKind::kCoactivation;
    expect_same_in_batches(options, wanted, seed++);
  }
}

// The same where chunks of prompts are in the passes too: each session reads its prompt chunk by chunk and
// then writes, in whatever company.
void expect_same_in_company(const EngineOptions& options, const std::vector<Said>& wanted, unsigned seed) {
  const auto engine = open_or_fail(options, joining(seed));
  ASSERT_NE(engine, nullptr);
  std::mt19937 random(seed);
  std::vector<std::unique_ptr<Session>> sessions(kSessions);
  std::vector<std::vector<Token>> prompts;
  for (size_t i = 0; i < kSessions; ++i) {
    prompts.push_back(prompt_of(*engine, i));
    sessions[i] = engine->new_session().value();
  }
  std::vector<size_t> done(kSessions);
  int together = 0, mixed = 0;
  for (size_t left = kSessions; left > 0;) {
    std::vector<NextTokens> parts;
    std::vector<size_t> present;
    int several = 0;
    for (size_t i = 0; i < kSessions; ++i) {
      if (done[i] == kTokens || random() % 10 >= 7) continue;
      const size_t at = sessions[i]->tokens().size();
      std::span<const Token> part(&wanted[i].tokens[done[i]], 1);
      if (at < prompts[i].size()) {
        part = std::span(prompts[i]).subspan(at);
        part = part.first(std::min(part.size(), static_cast<size_t>(options.chunk)));
      }
      if (part.size() > 1 && ++several > options.prompts) continue;
      present.push_back(i);
      parts.push_back({.session = sessions[i].get(), .tokens = part});
    }
    if (parts.empty()) continue;
    together += several > 1 ? 1 : 0;
    mixed += several > 0 && std::cmp_less(several, parts.size()) ? 1 : 0;
    std::vector<size_t> order(parts.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::shuffle(order, random);
    std::vector<NextTokens> shuffled;
    shuffled.reserve(order.size());
    for (const size_t i : order) shuffled.push_back(parts[i]);
    const Status status = engine->advance(shuffled);
    ASSERT_TRUE(status.has_value()) << status.error().message;
    for (const size_t i : present) {
      if (sessions[i]->tokens().size() < prompts[i].size()) continue;
      if (sessions[i]->tokens().size() > prompts[i].size()) left -= ++done[i] == kTokens ? 1 : 0;
      if (done[i] == kTokens) continue;
      ASSERT_TRUE(same(sessions[i]->logits(), wanted[i].logits[done[i]]))
          << "session " << i << ", token " << done[i];
    }
  }
  EXPECT_GE(together, 1) << "passes with several prompts";
  EXPECT_GE(mixed, 1) << "passes with prompts and single tokens";
}

TEST_P(Batch, PromptsReadInCompanyGetTheBitsThatTheyGetAloneAtAnyBudget) {
  if (model().empty()) GTEST_SKIP() << "set ODMOE_SHARED to the reference data to test " << GetParam();
  EngineOptions options = batch_options(model());
  const std::vector<Said> wanted = all_alone(options);
  ASSERT_EQ(wanted.size(), kSessions);
  options.prompts = 3;
  unsigned seed = 11;
  for (const double percent : {100.0, 40.0, 0.001}) {
    SCOPED_TRACE(::testing::Message() << percent << " % of the experts");
    options.memory.percent = percent;
    expect_same_in_company(options, wanted, seed++);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Batch,
                         ::testing::Values("bundled", "demo-kimi", "demo-qwen2moe", "arch/kimi-k2.F32",
                                           "arch/deepseek-v2-lite.F32", "arch/qwen2moe.F32",
                                           "arch/qwen3moe.F32", "arch/qwen3moe.Q4_K_M"),
                         [](const auto& test) { return test_name(test.param); });

// Sixteen sessions that all want every expert, so that a call could have sixteen rows of each: ggml chooses
// another kernel for that in many types, and the types of gate and up and of down may differ.
void expect_same_among_sixteen(const std::filesystem::path& model) {
  constexpr size_t kMany = 16;
  constexpr size_t kSteps = 4;
  EngineOptions options = batch_options(model);
  options.context = 256;
  options.sessions = kMany;
  const auto text = [](const EngineImpl& engine, size_t i) {
    return engine.encode(std::string(i + 1, static_cast<char>('a' + i)) + std::string(kPrompts[i % 4]), true,
                         true);
  };
  std::vector<Said> wanted(kMany);
  {
    const auto engine = open_or_fail(options);
    ASSERT_NE(engine, nullptr);
    for (size_t i = 0; i < kMany; ++i) {
      const auto session = engine->new_session().value();
      ASSERT_TRUE(session->evaluate(text(*engine, i)).has_value());
      for (size_t t = 0; t < kSteps; ++t) {
        wanted[i].tokens.push_back(likeliest(session->logits()));
        ASSERT_TRUE(session->evaluate({&wanted[i].tokens.back(), 1}).has_value());
        wanted[i].logits.emplace_back(session->logits().begin(), session->logits().end());
      }
    }
  }
  for (const double percent : {100.0, 0.001}) {
    options.memory.percent = percent;
    const auto engine = open_or_fail(options, {.least_joint_bytes = 0});
    ASSERT_NE(engine, nullptr);
    std::vector<std::unique_ptr<Session>> sessions(kMany);
    for (size_t i = 0; i < kMany; ++i) {
      sessions[i] = engine->new_session().value();
      ASSERT_TRUE(sessions[i]->evaluate(text(*engine, i)).has_value());
    }
    for (size_t t = 0; t < kSteps; ++t) {
      std::vector<NextToken> batch;
      for (size_t i = 0; i < kMany; ++i) {
        batch.push_back({.session = sessions[i].get(), .token = wanted[i].tokens[t]});
      }
      ASSERT_TRUE(engine->step(batch).has_value());
      for (size_t i = 0; i < kMany; ++i) {
        EXPECT_TRUE(same(sessions[i]->logits(), wanted[i].logits[t]))
            << "session " << i << ", token " << t << ", " << percent << " % of the experts";
      }
    }
  }
}

TEST(BatchTypes, SixteenSessionsThatWantTheSameExpertsGetTheirOwnBitsInEveryType) {
  const TempDir dir;
  for (const ggml_type type : expert_types()) {
    SCOPED_TRACE(ggml_type_name(type));
    const auto path = dir.path() / (std::string(ggml_type_name(type)) + ".gguf");
    runnable_model({.expert_type = type, .n_layer = 1, .n_expert = 2, .n_embd = 256, .n_ff_exp = 512})
        .write(path);
    expect_same_among_sixteen(path);
  }
}

TEST(BatchTypes, SixteenSessionsGetTheirOwnBitsWhereDownIsOfAnotherType) {
  const TempDir dir;
  for (const auto& [type, down] :
       {std::pair{GGML_TYPE_Q8_0, GGML_TYPE_Q6_K}, {GGML_TYPE_Q4_K, GGML_TYPE_Q8_0}}) {
    SCOPED_TRACE(ggml_type_name(down));
    const auto path = dir.path() / (std::string(ggml_type_name(down)) + ".gguf");
    runnable_model({.architecture = "deepseek2",
                    .expert_type = type,
                    .down_type = down,
                    .n_expert = 4,
                    .n_expert_used = 4,
                    .n_embd = 256,
                    .n_ff_exp = 256,
                    .sigmoid_groups = false})
        .write(path);
    expect_same_among_sixteen(path);
  }
}

TEST(BatchSharing, WhatSeveralWantIsAskedForOnce) {
  EngineOptions options = batch_options(bundled_model());
  options.memory.percent = 25;
  options.predictor = PredictorKind::kNone;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  // The same text three times: what one wants they all want.
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 3; ++i) {
    sessions.push_back(engine->new_session().value());
    ASSERT_TRUE(sessions.back()->evaluate(prompt_of(*engine, 0)).has_value());
  }
  const auto n_chosen = static_cast<uint64_t>(engine->model().n_expert_used) *
                        static_cast<uint64_t>(engine->model().n_expert_layer);
  for (int t = 0; t < 8; ++t) {
    std::vector<NextToken> batch;
    batch.reserve(sessions.size());
    for (const auto& session : sessions) {
      batch.push_back({.session = session.get(), .token = likeliest(session->logits())});
    }
    const Stats before = engine->stats();
    ASSERT_TRUE(engine->step(batch).has_value());
    const Stats after = engine->stats();
    EXPECT_EQ(after.experts.demands - before.experts.demands, n_chosen) << "of one token, not of three";
    EXPECT_EQ(after.decode.tokens - before.decode.tokens, 3U);
    EXPECT_EQ(after.decode.steps - before.decode.steps, 1U);
    EXPECT_EQ(after.decode.experts_read - before.decode.experts_read,
              after.experts.misses - before.experts.misses);
    EXPECT_EQ(after.routing.total_selections - before.routing.total_selections, 3 * n_chosen);
  }
  for (const auto& session : sessions) EXPECT_TRUE(same(session->logits(), sessions[0]->logits()));
}

TEST(BatchSharing, WhatSeveralPromptsWantIsAskedForOnce) {
  EngineOptions options = batch_options(bundled_model());
  options.memory.percent = 25;
  options.predictor = PredictorKind::kNone;
  options.prompts = 3;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 4; ++i) sessions.push_back(engine->new_session().value());
  std::vector<Token> text = prompt_of(*engine, 2);
  text.resize(static_cast<size_t>(options.chunk));
  const auto demands = [&] { return engine->stats().experts.demands; };
  // Of every position, since a pass of several computes the last layer for all.
  ASSERT_TRUE(sessions[3]->evaluate(text, [](int32_t, std::span<const float>) {}).has_value());
  const uint64_t of_one = demands();
  std::vector<NextTokens> parts;
  for (int i = 0; i < 3; ++i)
    parts.push_back({.session = sessions[static_cast<size_t>(i)].get(), .tokens = text});
  ASSERT_TRUE(engine->advance(parts).has_value());
  EXPECT_EQ(demands() - of_one, of_one) << "the same text three times";
  EXPECT_EQ(engine->stats().prefill.tokens, 4 * text.size());
  for (const auto& session : sessions) EXPECT_TRUE(same(session->logits(), sessions[3]->logits()));
}

TEST(BatchObserver, MayComeAndGoWhileSessionsStep) {
  class Counter final : public RoutingObserver {
   public:
    int n_token = 0;

   private:
    Status on_tokens(const ObservedTokens& tokens) override {
      n_token += static_cast<int>(tokens.tokens.size());
      return {};
    }
    Status on_layer(const ObservedLayer&) override { return {}; }
  } observer;
  EngineOptions options = batch_options(bundled_model());
  options.threads = 1;  // the thread sanitizer does not know OpenMP's locks
  options.memory.percent = 25;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const std::vector<Token> text = prompt_of(*engine, 1);
  std::array<std::unique_ptr<Session>, 2> sessions;
  const auto step_through = [&] {
    for (auto& session : sessions) session = engine->new_session().value();
    for (const Token token : text) {
      ASSERT_TRUE(
          engine->step(std::array{NextToken{sessions[0].get(), token}, NextToken{sessions[1].get(), token}})
              .has_value());
    }
  };
  step_through();
  const std::vector<float> wanted(sessions[0]->logits().begin(), sessions[0]->logits().end());
  engine->set_routing_observer(&observer);
  step_through();
  EXPECT_EQ(observer.n_token, 2 * std::ssize(text));
  std::atomic<bool> ended = false;
  std::thread stepper([&] {
    step_through();
    ended = true;
  });
  for (bool looks_on = false; !ended; looks_on = !looks_on) {
    engine->set_routing_observer(looks_on ? &observer : nullptr);
  }
  stepper.join();
  engine->set_routing_observer(nullptr);
  for (const auto& session : sessions) EXPECT_TRUE(same(session->logits(), wanted));
}

TEST(BatchErrors, APassThatCannotBeChangesNoTimeline) {
  EngineOptions options = batch_options(bundled_model());
  options.context = 64;
  options.prompts = 2;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const std::vector<Token> text(20, 5);
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 3; ++i) {
    sessions.push_back(engine->new_session().value());
    ASSERT_TRUE(sessions.back()->evaluate(std::vector<Token>(50, 7)).has_value());
  }
  const std::vector<float> logits(sessions[0]->logits().begin(), sessions[0]->logits().end());
  const auto expect_refused = [&](std::span<const NextTokens> parts, ErrorKind kind) {
    const Status status = engine->advance(parts);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().kind, kind) << status.error().message;
    for (const auto& session : sessions) {
      EXPECT_EQ(session->tokens().size(), 50U);
      EXPECT_TRUE(same(session->logits(), logits));
    }
  };
  const std::span<const Token> few = std::span(text).first(9);
  const auto part = [&](size_t i, std::span<const Token> tokens) {
    return NextTokens{.session = sessions[i].get(), .tokens = tokens};
  };
  expect_refused({}, ErrorKind::kUsage);
  expect_refused(std::array{part(0, few), part(1, few), part(2, few)}, ErrorKind::kUsage);
  expect_refused(std::array{part(0, few), part(1, text)}, ErrorKind::kUsage);
  engine->interrupt();
  expect_refused(std::array{part(0, few), part(1, few), part(2, few.first(1))}, ErrorKind::kInterrupted);
  engine->clear_interrupt();
  ASSERT_TRUE(engine->advance(std::array{part(0, few), part(1, few), part(2, few.first(1))}).has_value());
  EXPECT_EQ(sessions[1]->tokens().size(), 59U);
  EXPECT_TRUE(same(sessions[0]->logits(), sessions[1]->logits()));
}

TEST(BatchErrors, AStepThatCannotBeChangesNoTimeline) {
  EngineOptions options = batch_options(bundled_model());
  options.context = 64;
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  const auto full = engine->new_session().value();
  const auto fine = engine->new_session().value();
  ASSERT_TRUE(full->evaluate(std::vector<Token>(64, 5)).has_value());
  ASSERT_TRUE(fine->evaluate(std::vector<Token>(5, 5)).has_value());
  const std::vector<float> logits(fine->logits().begin(), fine->logits().end());
  const auto expect_refused = [&](std::span<const NextToken> batch, ErrorKind kind) {
    const Status status = engine->step(batch);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().kind, kind) << status.error().message;
    EXPECT_EQ(fine->tokens().size(), 5U);
    EXPECT_TRUE(same(fine->logits(), logits));
  };
  expect_refused({}, ErrorKind::kUsage);
  expect_refused(std::array{NextToken{fine.get(), 5}, NextToken{full.get(), 5}}, ErrorKind::kUsage);
  expect_refused(std::array{NextToken{fine.get(), -1}}, ErrorKind::kUsage);
  full->truncate(10);
  engine->interrupt();
  expect_refused(std::array{NextToken{fine.get(), 5}, NextToken{full.get(), 5}}, ErrorKind::kInterrupted);
  engine->clear_interrupt();
  EXPECT_TRUE(engine->step(std::array{NextToken{fine.get(), 5}, NextToken{full.get(), 5}}).has_value());
  EXPECT_EQ(fine->tokens().size(), 6U);
  EXPECT_EQ(full->tokens().size(), 11U);
}

}  // namespace
}  // namespace odmoe::batch_test
