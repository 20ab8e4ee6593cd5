// Counts what operator new is asked for, which is why it is a program of its own.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <new>
#include <vector>

#include "engine/sampler.h"

namespace {

int allocations = 0;

}  // namespace

// Every form that is used here, so that what malloc gave goes back to free under the sanitizers too; not
// inlined, or the compiler takes the pair for a mistake.
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  ++allocations;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (void* p = operator new(bytes, std::nothrow)) return p;
  std::abort();
}
// NOLINTBEGIN(clang-analyzer-cplusplus.NewDelete): the analyzer takes these for users of operator delete.
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t /*bytes*/) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t& /*tag*/) noexcept { std::free(p); }
// NOLINTEND(clang-analyzer-cplusplus.NewDelete)

namespace odmoe {
namespace {

TEST(SamplerAllocation, SamplingAllocatesNothing) {
  constexpr int32_t kVocab = 163840;
  std::vector<float> logits(kVocab);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = 10 * std::sin(static_cast<float>(i));
  for (const int32_t top_k : {0, 1, 40, 100000}) {
    for (const float temperature : {0.0F, 1.0F}) {
      for (const float top_p : {0.95F, 1.0F}) {
        SamplingOptions options;
        options.temperature = temperature;
        options.top_k = top_k;
        options.top_p = top_p;
        options.repetition_penalty = 1.1F;
        options.penalty_last_n = 4;
        Sampler sampler(options, kVocab);
        const int before = allocations;
        for (int i = 0; i < 10; ++i) sampler.accept(sampler.sample(logits).value());
        EXPECT_EQ(allocations, before)
            << "top_k " << top_k << " temperature " << temperature << " top_p " << top_p;
      }
    }
  }
}

TEST(SamplerAllocation, TheCounterCounts) {
  const int before = allocations;
  const std::vector<int> something(100);
  EXPECT_EQ(something.size(), 100);
  EXPECT_GT(allocations, before);
}

}  // namespace
}  // namespace odmoe
