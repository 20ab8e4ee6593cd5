// Locks that Clang's thread-safety analysis understands (-Wthread-safety, which ./dev lint turns on): a
// member says which lock guards it, a function which lock it requires, and what does not hold to it is an
// error. https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#ifdef __clang__
#define ODMOE_THREAD_ANNOTATION_(x) __attribute__((x))
#else
#define ODMOE_THREAD_ANNOTATION_(x)
#endif
#define ODMOE_CAPABILITY(name) ODMOE_THREAD_ANNOTATION_(capability(name))
#define ODMOE_SCOPED_CAPABILITY ODMOE_THREAD_ANNOTATION_(scoped_lockable)
// Of a member: it is touched with the lock held only.
#define ODMOE_GUARDED_BY(lock) ODMOE_THREAD_ANNOTATION_(guarded_by(lock))
// Of a function: it is called with the lock held, or without it.
#define ODMOE_REQUIRES(...) ODMOE_THREAD_ANNOTATION_(requires_capability(__VA_ARGS__))
#define ODMOE_EXCLUDES(...) ODMOE_THREAD_ANNOTATION_(locks_excluded(__VA_ARGS__))
#define ODMOE_ACQUIRE(...) ODMOE_THREAD_ANNOTATION_(acquire_capability(__VA_ARGS__))
#define ODMOE_RELEASE(...) ODMOE_THREAD_ANNOTATION_(release_capability(__VA_ARGS__))
#define ODMOE_TRY_ACQUIRE(...) ODMOE_THREAD_ANNOTATION_(try_acquire_capability(__VA_ARGS__))
// Of a function whose locks the analysis cannot follow; say why.
#define ODMOE_NO_THREAD_SAFETY_ANALYSIS ODMOE_THREAD_ANNOTATION_(no_thread_safety_analysis)

namespace odmoe {

class ODMOE_CAPABILITY("mutex") Mutex {
 public:
  void lock() ODMOE_ACQUIRE() { mutex_.lock(); }
  void unlock() ODMOE_RELEASE() { mutex_.unlock(); }
  bool try_lock() ODMOE_TRY_ACQUIRE(true) { return mutex_.try_lock(); }

 private:
  friend class Condition;
  std::mutex mutex_;
};

// Holds a mutex as long as it lives, but for what is between unlock() and lock().
class ODMOE_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ODMOE_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() ODMOE_RELEASE() {
    if (held_) mutex_.unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void unlock() ODMOE_RELEASE() {
    held_ = false;
    mutex_.unlock();
  }
  void lock() ODMOE_ACQUIRE() {
    mutex_.lock();
    held_ = true;
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

// std::condition_variable for a Mutex that the caller holds.  Waits end for no reason too, so they stand in a
// loop around what is waited for; a predicate would be a function of its own to the analysis.
class Condition {
 public:
  void wait(Mutex& mutex) ODMOE_REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();  // the caller holds it again
  }
  // False when the time was over first.
  template <typename Clock, typename Duration>
  bool wait_until(Mutex& mutex, std::chrono::time_point<Clock, Duration> end) ODMOE_REQUIRES(mutex) {
    std::unique_lock lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = condition_.wait_until(lock, end) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void notify_one() { condition_.notify_one(); }
  void notify_all() { condition_.notify_all(); }

 private:
  std::condition_variable condition_;
};

}  // namespace odmoe
