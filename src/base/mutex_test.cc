#include "base/mutex.h"

#include <gtest/gtest.h>

#include <thread>
#include <utility>

namespace odmoe {
namespace {

class Box {
 public:
  void put(int value) {
    const MutexLock lock(mutex_);
    value_ = value;
    changed_.notify_all();
  }
  int take() {
    MutexLock lock(mutex_);
    while (value_ == 0) changed_.wait(mutex_);
    return std::exchange(value_, 0);
  }
  bool take_within(std::chrono::milliseconds limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    const MutexLock lock(mutex_);
    while (value_ == 0) {
      if (!changed_.wait_until(mutex_, end)) return false;
    }
    value_ = 0;
    return true;
  }
  bool is_free() {
    if (!mutex_.try_lock()) return false;
    mutex_.unlock();
    return true;
  }
  bool is_free_between_unlock_and_lock() {
    MutexLock lock(mutex_);
    lock.unlock();
    const bool free = is_free();
    lock.lock();
    return free;
  }

 private:
  Mutex mutex_;
  Condition changed_;
  int value_ ODMOE_GUARDED_BY(mutex_) = 0;
};

TEST(Mutex, AWaitEndsWhenAnotherThreadHasChangedWhatIsWaitedFor) {
  Box box, back;
  std::thread other([&] { back.put(box.take() + 1); });
  box.put(41);
  EXPECT_EQ(back.take(), 42);
  other.join();
}

TEST(Mutex, AWaitThatIsOverGivesTheLockBack) {
  Box box;
  EXPECT_FALSE(box.take_within(std::chrono::milliseconds(1)));
  EXPECT_TRUE(box.is_free());
  box.put(1);
  EXPECT_TRUE(box.take_within(std::chrono::milliseconds(1)));
}

TEST(Mutex, AScopedLockCanBeGivenUpInBetween) {
  Box box;
  EXPECT_TRUE(box.is_free_between_unlock_and_lock());
  EXPECT_TRUE(box.is_free());
}

}  // namespace
}  // namespace odmoe
