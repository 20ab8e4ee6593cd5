#include "server/request_memory.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "base/units.h"
#include "server/limits.h"

namespace odmoe::server {
namespace {

std::shared_ptr<RequestMemory> account(uint64_t bytes) { return std::make_shared<RequestMemory>(bytes); }

TEST(RequestMemory, WhatIsTakenComesBackWhenTheShareGoes) {
  const auto memory = account(8 * kMiB);
  {
    RequestMemory::Share share(memory);
    EXPECT_TRUE(share.try_grow(kMiB));
    EXPECT_TRUE(share.try_grow(2 * kMiB));
    RequestMemory::Share moved = std::move(share);
    EXPECT_EQ(memory->taken(), 3 * kMiB);
    moved.shrink(kMiB);
    EXPECT_EQ(memory->taken(), kMiB);
    moved.shrink(2 * kMiB);  // no growth
    EXPECT_EQ(memory->taken(), kMiB);
  }
  EXPECT_EQ(memory->taken(), 0);
}

TEST(RequestMemory, LargeRequestsLeaveSomethingToSmallOnes) {
  const auto memory = account(8 * kMiB);
  RequestMemory::Share large(memory), other(memory), small(memory);
  EXPECT_FALSE(large.try_grow(memory->most() + 1));
  EXPECT_TRUE(large.try_grow(memory->most()));
  EXPECT_FALSE(other.try_grow(kSmallRequestBytes + 1));
  EXPECT_TRUE(small.try_grow(kSmallRequestBytes));
  EXPECT_FALSE(small.try_grow(1));  // it is not a small one any more
}

TEST(RequestWork, WhatNoRequestMayHaveIs413AndWhatOthersHaveIs503) {
  const auto memory = account(8 * kMiB);
  RequestWork work(memory, std::nullopt, nullptr, {});
  EXPECT_EQ(work.take(9 * kMiB).error().status, 413);
  RequestMemory::Share other(memory);
  ASSERT_TRUE(other.try_grow(memory->most()));
  const auto refused = work.take(kMiB);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().status, 503);
  EXPECT_GT(refused.error().retry_after_s, 0);
  EXPECT_EQ(memory->taken(), memory->most());
}

TEST(RequestWork, WaitsForWhatOthersGiveBack) {
  const auto memory = account(8 * kMiB);
  RequestMemory::Share other(memory);
  ASSERT_TRUE(other.try_grow(memory->most()));
  RequestWork work(memory, std::nullopt, nullptr, {});
  std::atomic<bool> asked = false;
  RequestWork waiter(memory, std::nullopt, nullptr, [&] {
    asked = true;
    return false;
  });
  ApiStatus status;
  std::thread thread([&] { status = waiter.take(kMiB); });
  while (!asked) std::this_thread::yield();
  other.shrink(0);
  thread.join();
  EXPECT_TRUE(status.has_value());
  EXPECT_EQ(waiter.bytes(), kMiB);
}

TEST(RequestWork, EndsAtTheDeadlineWhenTheServerStopsAndWhenTheClientIsGone) {
  std::atomic<bool> stops = false;
  bool gone = false;
  const auto memory = account(kMiB);
  RequestWork late(memory, RequestWork::Clock::now() - std::chrono::seconds(1), nullptr, {});
  EXPECT_EQ(late.goes_on().error().status, 504);
  EXPECT_FALSE(late.hurries_on());
  RequestWork work(memory, std::nullopt, &stops, [&] { return gone; });
  EXPECT_TRUE(work.goes_on().has_value());
  gone = true;
  EXPECT_EQ(work.goes_on().error().status, 499);
  int asked = 0;
  while (work.hurries_on()) ++asked;
  EXPECT_LT(asked, 1000);
  stops = true;
  EXPECT_EQ(work.goes_on().error().status, 503);
  EXPECT_FALSE(work.hurries_on());
}

TEST(RequestWork, WithoutAnAccountNothingIsBounded) {
  RequestWork work;
  EXPECT_TRUE(work.take(uint64_t{1} << 60).has_value());
  EXPECT_TRUE(work.goes_on().has_value());
}

}  // namespace
}  // namespace odmoe::server
