// Decoding allocates nothing after load: counted over the whole process.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "store/testing.h"

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
[[gnu::noinline]] void operator delete(void* block, size_t /*bytes*/) noexcept { std::free(block); }

namespace odmoe {
namespace {

class ExpertStoreAllocation : public ::testing::TestWithParam<ReaderKind> {};

TEST_P(ExpertStoreAllocation, LeasingWaitingAndReleasingAllocateNothing) {
  const TemporaryFolder folder;
  const FakeSource source({.n_layer = 4, .slice_bytes = {5000, 5000, 9000}}, folder.path());
  source.write_files();
  auto reader = make_reader({.kind = GetParam(), .depth = 8});
  if (!reader.has_value()) GTEST_SKIP() << reader.error().message;
  auto store =
      ExpertStore::create(source, std::move(*reader),
                          {.arena_bytes = 400'000, .read_bytes = 4096, .policy = PolicyKind::kForecast})
          .value();
  std::vector<ExpertLease> leases;
  leases.reserve(8);
  std::array<int32_t, 2> experts{};
  std::array<ExpertKey, 3> hints{};
  const auto decode = [&](int n_token) {
    for (int token = 0; token < n_token; ++token) {
      for (int layer = 0; layer < 4; ++layer) {
        experts = {token % 8, (token * 3 + layer + 1) % 8};
        if (experts[0] == experts[1]) experts[1] = (experts[1] + 1) % 8;
        store->observe(layer, experts, std::array{0.6F, 0.4F});
        store->lease(layer, experts, leases);
        for (size_t i = 0; i < hints.size(); ++i) {
          hints[i] = {(layer + 1) % 4, static_cast<int32_t>((static_cast<size_t>(token) + i) % 8)};
        }
        store->prefetch(hints, Reach::kBorrow);
        if (!store->wait_any(leases).has_value() || !store->wait_all(leases).has_value()) std::abort();
        leases.clear();
      }
    }
  };
  decode(4);
  const uint64_t misses = store->stats().misses;
  counting = true;
  decode(50);
  counting = false;
  EXPECT_EQ(n_allocation.exchange(0), 0);
  EXPECT_GT(store->stats().misses, misses) << "nothing was read while counting";

  counting = true;
  leases = std::vector<ExpertLease>(1);
  counting = false;
  EXPECT_GT(n_allocation.exchange(0), 0) << "the counter counts";
}

INSTANTIATE_TEST_SUITE_P(Readers, ExpertStoreAllocation,
                         ::testing::Values(ReaderKind::kIoUring, ReaderKind::kPread), [](const auto& param) {
                           return param.param == ReaderKind::kPread ? "pread" : "io_uring";
                         });

}  // namespace
}  // namespace odmoe
