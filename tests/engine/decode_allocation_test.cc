// Decoding allocates nothing after load: counted over the whole process, in evaluations of single tokens that
// read experts, and in sampling.
//
// What is counted is operator new, of odmoe and of all libraries: ggml's CPU backend takes its work buffer by
// it, which grows during the warm-up and not afterwards.  Not counted is what ggml's C code asks of malloc:
// ggml_graph_compute makes a descriptor of its threads for each graph and frees it
// (ggml_threadpool_new_impl), and every 256 positions, when the graphs are built anew,
// ggml_gallocr_alloc_graph makes its tables again.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "engine/sampler.h"
#include "tests/engine/test_models.h"

namespace {
std::atomic<bool> counting = false;
std::atomic<int> n_allocation = 0;
}  // namespace

// The replacements forward to malloc, so that sanitizers still see every block; not inlined, or the compiler
// takes the pair for a mistake.
[[gnu::noinline]] void* operator new(size_t bytes) {
  if (counting) ++n_allocation;
  if (void* const block = std::malloc(bytes == 0 ? 1 : bytes)) return block;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  if (counting) ++n_allocation;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void operator delete(void* block) noexcept { std::free(block); }
// NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDelete): the pair of the operator new above
[[gnu::noinline]] void operator delete(void* block, size_t /*bytes*/) noexcept { std::free(block); }

namespace odmoe::decode_allocation_test {
namespace {

using namespace odmoe::testing;

class DecodeAllocation : public ::testing::TestWithParam<ReaderChoice> {};

TEST_P(DecodeAllocation, DecodingAndSamplingAllocateNothing) {
  ODMOE_SKIP_UNDER_ASAN("two openings do not take the same memory");
  EngineOptions options = reference_options(bundled_model());
  options.cache_type = CacheType::kF16;
  options.context = 1024;
  options.reader = GetParam();
  options.predictor = PredictorKind::kStaleGate;
  // A size, so that the arena shrinks for the KV cache while decoding, to a quarter of the experts.
  options.memory.percent = 25;
  const auto plan = EngineImpl::memory_plan(options);
  if (!plan.has_value()) GTEST_SKIP() << plan.error().message;
  options.memory = {.kind = MemoryBudget::Kind::kBytes, .bytes = plan->budget_bytes, .percent = 0};
  const auto engine = open_or_fail(options);
  ASSERT_NE(engine, nullptr);
  auto session = engine->new_session().value();
  Sampler sampler({.temperature = 1.0F, .repetition_penalty = 1.1F, .seed = 1}, engine->model().n_vocab);
  ASSERT_TRUE(session->evaluate(engine->encode("And God said unto the king,", true, true)).has_value());
  const auto decode = [&](int n) {
    for (int i = 0; i < n; ++i) {
      const Token token = sampler.sample(session->logits()).value();
      sampler.accept(token);
      if (!session->evaluate({&token, 1}).has_value()) std::abort();
    }
  };
  decode(4);
  const Stats before = engine->stats();
  counting = true;
  decode(600);  // across lengths at which graphs are built anew
  counting = false;
  EXPECT_EQ(n_allocation.exchange(0), 0);
  const Stats after = engine->stats();
  EXPECT_GT(after.experts.misses, before.experts.misses + 100) << "hardly anything was read while counting";
  EXPECT_GT(after.arena_resizes, before.arena_resizes) << "the KV cache did not grow while counting";

  counting = true;
  const std::vector<int> something(100);
  counting = false;
  EXPECT_EQ(something.size(), 100U);
  EXPECT_GT(n_allocation.exchange(0), 0) << "the counter counts";
}

// Whether their products are joined or not.
void expect_steps_to_allocate_nothing(ReaderChoice reader, uint64_t least_joint_bytes) {
  EngineOptions options = reference_options(bundled_model());
  options.cache_type = CacheType::kF16;
  options.context = 512;
  options.reader = reader;
  options.sessions = 3;
  options.memory.percent = 25;
  const auto engine = open_or_fail(options, {.least_joint_bytes = least_joint_bytes});
  ASSERT_NE(engine, nullptr);
  std::vector<std::unique_ptr<Session>> sessions;
  for (const char* text : {"And God said unto the king,", "We the people", "1776"}) {
    sessions.push_back(engine->new_session().value());
    ASSERT_TRUE(sessions.back()->evaluate(engine->encode(text, true, true)).has_value());
  }
  std::vector<NextToken> batch(sessions.size());
  const auto decode = [&](int n) {
    for (int i = 0; i < n; ++i) {
      for (size_t s = 0; s < sessions.size(); ++s) {
        const std::span<const float> logits = sessions[s]->logits();
        batch[s] = {.session = sessions[s].get(),
                    .token = static_cast<Token>(std::ranges::max_element(logits) - logits.begin())};
      }
      if (!engine->step(std::span(batch).first(i % 3 == 0 ? 2 : 3)).has_value()) std::abort();
    }
  };
  decode(8);
  const Stats before = engine->stats();
  counting = true;
  decode(300);  // across a length at which graphs are built anew
  counting = false;
  EXPECT_EQ(n_allocation.exchange(0), 0);
  EXPECT_GT(engine->stats().experts.misses, before.experts.misses + 100);
}

TEST_P(DecodeAllocation, StepsOfSeveralSessionsAllocateNothing) {
  expect_steps_to_allocate_nothing(GetParam(), DensePass::kLeastJointBytes);
}

TEST(DecodeAllocationOfJoined, StepsOfSeveralSessionsAllocateNothing) {
  expect_steps_to_allocate_nothing(ReaderChoice::kAuto, 0);
}

INSTANTIATE_TEST_SUITE_P(Readers, DecodeAllocation,
                         ::testing::Values(ReaderChoice::kAuto, ReaderChoice::kPread), [](const auto& test) {
                           return test.param == ReaderChoice::kPread ? "pread" : "auto";
                         });

}  // namespace
}  // namespace odmoe::decode_allocation_test
