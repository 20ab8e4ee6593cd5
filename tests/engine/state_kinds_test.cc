// All that sessions promise holds for every kind of state (tests/engine/toy_family.h), to the bit: going
// back, errors in the middle, saving, company, budgets and memories.
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <functional>
#include <random>

#include "io/fake_reader.h"
#include "runnable_model.h"
#include "temp_dir.h"
#include "tests/engine/test_models.h"
#include "tests/engine/toy_family.h"

namespace odmoe::state_kinds_test {
namespace {

using namespace odmoe::testing;

constexpr int32_t kChunk = 16;

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

// Interrupts the engine at a layer of an evaluation.
class Interrupter final : public RoutingObserver {
 public:
  Interrupter(Engine& engine, int layer, int evaluation)
      : engine_(&engine), layer_(layer), left_(evaluation) {
    engine.set_routing_observer(this);
  }
  ~Interrupter() override {
    engine_->set_routing_observer(nullptr);
    engine_->clear_interrupt();
  }
  Status on_tokens(const ObservedTokens&) override { return {}; }
  Status on_layer(const ObservedLayer& layer) override {
    if (layer.layer == layer_ && left_-- == 0) engine_->interrupt();
    return {};
  }

 private:
  Engine* engine_;
  int layer_, left_;
};

class StateKinds : public ::testing::TestWithParam<FlashAttention> {
 protected:
  void SetUp() override {
    const GgufWriter writer = runnable_model({.n_layer = ToyFamily::kLayers});
    options_ = reference_options(directory_.path() / "toy.gguf");
    writer.write(options_.model);
    options_.cache_type = CacheType::kF16;
    options_.context = 1200;
    options_.chunk = kChunk;
    options_.sessions = 3;
    options_.flash_attention = GetParam();
    dependencies_.make_architecture = ToyFamily::make;
    dependencies_.least_joint_bytes = 0;
    engine_ = open_or_fail(options_, dependencies_);
    ASSERT_NE(engine_, nullptr);
    std::mt19937 random(7);
    for (int i = 0; i < 700; ++i) text_.push_back(static_cast<Token>(random() % 256));
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

  TempDir directory_;
  EngineOptions options_;
  EngineDependencies dependencies_;
  std::unique_ptr<EngineImpl> engine_;
  std::vector<Token> text_;
};

TEST_P(StateKinds, EachChangesWhatComesOut) {
  // Another token far back, beyond all windows, is remembered; and so is the order of the last ones.
  const auto one = session();
  evaluate(*one, text(0, 300));
  std::vector<Token> changed(text_.begin(), text_.begin() + 300);
  changed[3] ^= 1;
  const auto two = session();
  evaluate(*two, changed);
  EXPECT_NE(copy(one->logits()), copy(two->logits()));
  EXPECT_FALSE(engine_->model().state_holds_every_length);
  EXPECT_GT(engine_->model().fixed_state_bytes, 0U);
}

TEST_P(StateKinds, ATimelineTakenBackGoesOnAsANewOne) {
  const auto one = session();
  evaluate(*one, text(0, 330));  // 20 chunks and 10 tokens
  one_by_one(*one, text(330, 30));
  EXPECT_EQ(one->reachable(360), 360);
  EXPECT_EQ(one->reachable(359), 359) << "by one commit";
  EXPECT_EQ(one->reachable(350), 330) << "where generation began";
  EXPECT_EQ(one->reachable(329), 320) << "the last whole chunk";
  EXPECT_EQ(one->reachable(319), 0);
  EXPECT_EQ(one->truncate(359), 359);
  one_by_one(*one, text(359, 1));
  EXPECT_EQ(copy(one->logits()), fresh(330, 30));
  EXPECT_EQ(one->truncate(350), 330);
  EXPECT_EQ(one->tokens().size(), 330U);
  one_by_one(*one, text(330, 5));
  EXPECT_EQ(copy(one->logits()), fresh(330, 5));
  EXPECT_EQ(one->truncate(327), 320);
  EXPECT_EQ(one->division().whole_chunks(), 320);
  evaluate(*one, text(320, 100));
  one_by_one(*one, text(420, 3));
  EXPECT_EQ(copy(one->logits()), fresh(420, 3));
  EXPECT_EQ(one->truncate(100), 0);
  evaluate(*one, text(0, 50));
  EXPECT_EQ(copy(one->logits()), fresh(50));
}

TEST_P(StateKinds, AnEvaluationThatFailsLeavesTheTimelineAsItWas) {
  const auto one = session();
  evaluate(*one, text(0, 290));
  one_by_one(*one, text(290, 7));
  for (int layer = 0; layer < ToyFamily::kLayers; ++layer) {
    for (const int evaluation : {0, 2}) {
      const Interrupter interrupter(*engine_, layer, evaluation);
      const Status failed = one->evaluate(text(297, 60));
      ASSERT_FALSE(failed.has_value());
      EXPECT_EQ(failed.error().kind, ErrorKind::kInterrupted);
      EXPECT_EQ(one->tokens().size(), 297U);
    }
    const Interrupter interrupter(*engine_, layer, 0);
    ASSERT_FALSE(one->evaluate(text(297, 1)).has_value());
  }
  one_by_one(*one, text(297, 3));
  EXPECT_EQ(copy(one->logits()), fresh(290, 10));
}

TEST_P(StateKinds, AStepThatFailsLeavesAllTimelinesAsTheyWere) {
  const auto one = session();
  const auto two = session();
  evaluate(*one, text(0, 40));
  evaluate(*two, text(0, 70));
  one_by_one(*two, text(70, 1));
  const std::array<NextToken, 2> next{{{one.get(), text_[40]}, {two.get(), text_[71]}}};
  {
    // Seen by an observer, a step is made of evaluations; the second one fails.
    const Interrupter interrupter(*engine_, 2, 1);
    ASSERT_FALSE(engine_->step(next).has_value());
  }
  EXPECT_EQ(one->tokens().size(), 40U);
  EXPECT_EQ(two->tokens().size(), 71U);
  engine_->interrupt();
  ASSERT_FALSE(engine_->step(next).has_value());
  engine_->clear_interrupt();
  ASSERT_TRUE(engine_->step(next).has_value());
  EXPECT_EQ(copy(one->logits()), fresh(40, 1));
  EXPECT_EQ(copy(two->logits()), fresh(70, 2));
}

TEST_P(StateKinds, CompanyChangesNothing) {
  const auto one = session();
  const auto two = session();
  evaluate(*one, text(0, 250));
  evaluate(*two, text(0, 33));
  for (size_t i = 0; i < 20; ++i) {
    const std::array<NextToken, 2> next{{{one.get(), text_[250 + i]}, {two.get(), text_[33 + i]}}};
    ASSERT_TRUE(engine_->step(next).has_value());
  }
  EXPECT_EQ(copy(one->logits()), fresh(250, 20));
  EXPECT_EQ(copy(two->logits()), fresh(33, 20));
}

TEST_P(StateKinds, CompanyWhileReadingChangesNothing) {
  options_.prompts = 2;
  for (const bool memory_of_its_own : {false, true}) {
    dependencies_.memory_of_its_own = memory_of_its_own;
    engine_ = open_or_fail(options_, dependencies_);
    ASSERT_NE(engine_, nullptr);
    auto one = session(), two = session(), three = session();
    evaluate(*three, text(0, 33));
    size_t written = 0;
    // 250 tokens of one and 71 of two, in chunks, while the third writes.
    for (size_t at = 0; at < 250; at += kChunk) {
      std::vector<NextTokens> parts{
          {.session = one.get(), .tokens = text(at, std::min<size_t>(kChunk, 250 - at))},
          {.session = three.get(), .tokens = text(33 + written++, 1)}};
      if (at < 71)
        parts.push_back({.session = two.get(), .tokens = text(at, std::min<size_t>(kChunk, 71 - at))});
      const Status status = engine_->advance(parts);
      ASSERT_TRUE(status.has_value()) << status.error().message;
    }
    const std::vector<float> of_one = copy(one->logits()), of_two = copy(two->logits()),
                             of_three = copy(three->logits());
    for (auto* session : {&one, &two, &three}) session->reset();
    EXPECT_EQ(of_one, fresh(250));
    EXPECT_EQ(of_two, fresh(71));
    EXPECT_EQ(of_three, fresh(33, written));
  }
}

// All logits of tokens that follow, evaluated as if each were by itself.
std::vector<float> singly(Session& session, std::span<const Token> tokens) {
  std::vector<float> all;
  const Status status = session.evaluate_singly(tokens, [&](int32_t position, std::span<const float> logits) {
    EXPECT_EQ(position, static_cast<int32_t>(session.tokens().size() + all.size() / logits.size()));
    all.insert(all.end(), logits.begin(), logits.end());
  });
  EXPECT_TRUE(status.has_value()) << status.error().message;
  return all;
}

TEST_P(StateKinds, TokensThatAreEvaluatedSinglyHaveTheBitsOfThoseThatCameOneByOne) {
  for (const bool memory_of_its_own : {false, true}) {
    dependencies_.memory_of_its_own = memory_of_its_own;
    const auto engine = open_or_fail(options_, dependencies_);
    ASSERT_NE(engine, nullptr);
    const auto one = engine->new_session().value();
    const auto two = engine->new_session().value();
    size_t at = 0;
    const auto read = [&](size_t n) {
      evaluate(*one, text(at, n));
      evaluate(*two, text(at, n));
      at += n;
    };
    const auto write = [&](size_t n) {
      std::vector<float> wanted;
      for (size_t i = 0; i < n; ++i) {
        evaluate(*one, text(at + i, 1));
        wanted.insert(wanted.end(), one->logits().begin(), one->logits().end());
      }
      EXPECT_TRUE(singly(*two, text(at, n)) == wanted) << n << " tokens after " << at;
      EXPECT_EQ(copy(two->logits()), copy(one->logits()));
      EXPECT_EQ(two->division(), one->division());
      at += n;
    };
    read(40);
    for (const size_t n : {1, 2, 3, 16, 15, 7, 16, 16}) write(n);  // odd and even; over the windows' rows
    read(33);
    for (const size_t n : {16, 5}) write(n);
    read(130);
    for (int i = 0; i < 6; ++i) write(16);  // beyond the first 256 rows
    read(21);
    EXPECT_EQ(copy(two->logits()), copy(one->logits()));
    const auto before_last_read = static_cast<int32_t>(at) - 22;
    EXPECT_EQ(two->truncate(before_last_read), one->truncate(before_last_read)) << "where it began to write";
  }
}

TEST_P(StateKinds, WhatIsReadSinglyAndFailsCanBeReadAgain) {
  options_.memory.percent = 12;
  const auto disk = std::make_shared<FakeDisk>();
  dependencies_.make_reader = [disk](const ReaderOptions& options) -> Result<std::unique_ptr<AsyncReader>> {
    return std::make_unique<FakeReader>(disk, options.depth,
                                        ReadAlignment{.offset_bytes = 512, .memory_bytes = 512});
  };
  const auto engine = open_or_fail(options_, dependencies_);
  ASSERT_NE(engine, nullptr);
  const auto one = engine->new_session().value();
  evaluate(*one, text(0, 70));
  const std::vector<float> wanted = fresh(70, 30);
  int failed = 0;
  disk->inject({.path = {}, .error = EIO, .times = 300});
  while (one->tokens().size() < 100) {
    const size_t at = one->tokens().size();
    // All that was written may be lost, and the last part of what was read.
    const Status status = at < 70 ? one->evaluate(text(at, 70 - at))
                                  : one->evaluate_singly(text(at, std::min<size_t>(10, 100 - at)));
    if (status.has_value()) continue;
    EXPECT_EQ(status.error().kind, ErrorKind::kIo);
    EXPECT_EQ(one->reachable(1000), static_cast<int32_t>(one->tokens().size()));
    ASSERT_LT(++failed, 300);
  }
  EXPECT_GT(failed, 2);
  EXPECT_EQ(copy(one->logits()), wanted);
}

TEST_P(StateKinds, WhatIsSavedGoesOnElsewhere) {
  const auto one = session();
  evaluate(*one, text(0, 330));
  one_by_one(*one, text(330, 4));
  options_.context = 600;
  options_.memory.percent = 30;
  const auto other_engine = open_or_fail(options_, dependencies_);
  ASSERT_NE(other_engine, nullptr);
  for (const int32_t n : {320, 330, 333, 334}) {
    ASSERT_EQ(one->reachable(n), n);
    std::vector<std::byte> state(one->state_bytes(n));
    one->save_state(n, state);
    const auto other = other_engine->new_session().value();
    evaluate(*other, text(100, 60));  // it was used before
    const auto kept = text(0, static_cast<size_t>(n));
    Division divided = one->division();
    divided.truncate(n);
    const Status part = other->restore_state(kept, n - 1, divided, state);
    ASSERT_FALSE(part.has_value()) << "a state of windows and recurrences is not one of fewer tokens";
    ASSERT_TRUE(other->restore_state(kept, n, divided, state).has_value());
    EXPECT_EQ(other->division(), divided);
    if (n == 320) {
      evaluate(*other, text(320, 10));
      EXPECT_EQ(copy(other->logits()), fresh(330));
    } else {
      one_by_one(*other, text(static_cast<size_t>(n), static_cast<size_t>(340 - n)));
      EXPECT_EQ(copy(other->logits()), fresh(330, 10));
    }
  }
}

TEST_P(StateKinds, BudgetsAndMemoriesChangeNothing) {
  const std::vector<float> wanted = fresh(300, 9);
  for (const double percent : {50.0, 10.0}) {
    for (const bool memory_of_its_own : {false, true}) {
      options_.memory.percent = percent;
      dependencies_.memory_of_its_own = memory_of_its_own;
      const auto other_engine = open_or_fail(options_, dependencies_);
      ASSERT_NE(other_engine, nullptr);
      const auto other = other_engine->new_session().value();
      evaluate(*other, text(0, 330));
      ASSERT_EQ(other->truncate(329), 320);
      ASSERT_EQ(other->truncate(0), 0);
      evaluate(*other, text(0, 300));
      one_by_one(*other, text(300, 9));
      EXPECT_EQ(copy(other->logits()), wanted) << percent << " % " << memory_of_its_own;
    }
  }
}

TEST_P(StateKinds, AFullContextIsShiftedAsANewSessionWouldHaveIt) {
  options_.context = 64;
  const auto small = open_or_fail(options_, dependencies_);
  ASSERT_NE(small, nullptr);
  GenerateOptions generate;
  generate.sampling.temperature = 0;
  generate.max_tokens = 150;
  generate.ignore_eos = true;
  generate.context_overflow = ContextOverflow::kShift;
  generate.keep = 9;
  const auto one = small->new_session().value();
  const auto long_text = small->generate(*one, text(0, 30), generate, {});
  ASSERT_TRUE(long_text.has_value()) << long_text.error().message;
  EXPECT_EQ(long_text->generated_tokens, 150);
  // What is in the session now was, but for the last tokens, evaluated at once.
  const std::vector<Token> now(one->tokens().begin(), one->tokens().end());
  const std::vector<float> logits = copy(one->logits());
  const size_t after_shift = 9 + (64 - 9) - (64 - 9) / 2;
  ASSERT_GT(now.size(), after_shift);
  const auto two = small->new_session().value();
  evaluate(*two, std::span(now).first(after_shift));
  one_by_one(*two, std::span(now).subspan(after_shift));
  EXPECT_EQ(copy(two->logits()), logits);
}

TEST_P(StateKinds, MemoryIsPlannedAsItIs) {
  options_.sessions = 1;
  const MemoryPlan plan = EngineImpl::open(options_, {}, dependencies_).value()->plan();
  options_.context = 2400;
  const MemoryPlan longer = EngineImpl::open(options_, {}, dependencies_).value()->plan();
  const ModelInfo& model = engine_->model();
  // 1200 tokens are 1280 rows, and 1200 / 4 blocks 512; 2400 are 2560 and 768.
  const uint64_t row = 2 * 16 * 2 * sizeof(uint16_t);
  EXPECT_EQ(longer.kv_bytes - plan.kv_bytes, row * (2560 - 1280) + row * (768 - 512));
  EXPECT_EQ(model.kv_bytes_per_token, row + row / 4);
  EXPECT_LT(model.fixed_state_bytes, plan.kv_bytes);
  // A session takes no more than planned.
  const auto one = session();
  evaluate(*one, text(0, 330));
  one_by_one(*one, text(330, 3));
  const Stats stats = engine_->stats();
  EXPECT_GT(stats.kv_bytes_in_use, 0U);
  EXPECT_LE(stats.kv_bytes_in_use, stats.memory.kv_bytes);
}

INSTANTIATE_TEST_SUITE_P(Attention, StateKinds, ::testing::Values(FlashAttention::kOn, FlashAttention::kOff),
                         [](const auto& one) {
                           return one.param == FlashAttention::kOn ? "Flash" : "Plain";
                         });

}  // namespace
}  // namespace odmoe::state_kinds_test
