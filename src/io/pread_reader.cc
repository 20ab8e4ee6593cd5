#include "io/pread_reader.h"

#include <algorithm>
#include <cassert>
#include <system_error>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "io/file_table.h"

namespace odmoe {
namespace {

// A thread per read in flight up to here.  Drives that need a deeper queue to reach their bandwidth at the
// read sizes used for experts do not exist; smaller stacks of waiting threads are kinder to everyone.
constexpr uint32_t kMaxThreads = 32;

// A first-in first-out queue of fixed capacity, so that steady state allocates nothing.
template <typename T>
class Ring {
 public:
  explicit Ring(size_t capacity) : items_(capacity) {}
  bool empty() const { return count_ == 0; }
  void push(const T& item) {
    assert(count_ < items_.size());
    items_[(first_ + count_++) % items_.size()] = item;
  }
  T pop() {
    assert(count_ > 0);
    const T item = items_[first_];
    first_ = (first_ + 1) % items_.size();
    --count_;
    return item;
  }

 private:
  std::vector<T> items_;
  size_t first_ = 0, count_ = 0;
};

class PreadReader final : public AsyncReader {
 public:
  explicit PreadReader(const ReaderOptions& options)
      : files_(options.direct), depth_(options.depth), queued_(options.depth), completed_(options.depth) {}

  ~PreadReader() override {
    {
      const MutexLock lock(mutex_);
      stopping_ = true;  // workers finish what is queued: its destinations are promised to live until then
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Status start() {
    const uint32_t wanted = std::min(depth_, kMaxThreads);
    threads_.reserve(wanted);
    for (uint32_t i = 0; i < wanted; ++i) {
      try {
        threads_.emplace_back([this] { work(); });
      } catch (const std::system_error& error) {
        if (!threads_.empty()) break;  // fewer threads are slower, not wrong
        return fail(ErrorKind::kIo,
                    "cannot start a thread for reading: {}; raise the limit of processes (ulimit -u)",
                    error.what());
      }
    }
    return {};
  }

  Result<int> add_file(const std::filesystem::path& path) override { return files_.add(path); }
  int n_file() const override { return static_cast<int>(files_.size()); }
  uint64_t file_bytes(int file) const override { return files_[file].bytes(); }
  const std::filesystem::path& path(int file) const override { return files_[file].path(); }
  ReadAlignment alignment() const override { return files_.alignment(); }
  uint32_t depth() const override { return depth_; }
  uint32_t in_flight() const override { return in_flight_; }
  std::string_view name() const override { return "pread"; }

  void submit(const ReadRequest& request) override {
    assert(in_flight_ < depth_);
    ++in_flight_;
    {
      const MutexLock lock(mutex_);
      queued_.push(request);
    }
    work_.notify_one();
  }

  size_t wait(std::span<ReadCompletion> out, std::optional<std::chrono::microseconds> timeout) override {
    assert(!out.empty());
    MutexLock lock(mutex_);
    const auto end = std::chrono::steady_clock::now() + timeout.value_or(std::chrono::microseconds(0));
    bool in_time = true;
    while (completed_.empty() && !woken_ && in_time) {
      if (timeout) {
        in_time = done_.wait_until(mutex_, end);
      } else {
        done_.wait(mutex_);
      }
    }
    woken_ = false;
    size_t count = 0;
    while (count < out.size() && !completed_.empty()) out[count++] = completed_.pop();
    in_flight_ -= static_cast<uint32_t>(count);
    return count;
  }

  void wake() override {
    {
      const MutexLock lock(mutex_);
      woken_ = true;
    }
    done_.notify_one();
  }

 private:
  void work() {
    MutexLock lock(mutex_);
    while (true) {
      while (!stopping_ && queued_.empty()) work_.wait(mutex_);
      if (queued_.empty()) return;
      const ReadRequest request = queued_.pop();
      lock.unlock();
      const int64_t result = files_.read(request);
      lock.lock();
      completed_.push({.id = request.id, .result = result});
      done_.notify_one();
    }
  }

  FileTable files_;
  const uint32_t depth_;
  uint32_t in_flight_ = 0;  // the owner's: counts until the completion is handed over

  Mutex mutex_;
  Condition work_, done_;
  Ring<ReadRequest> queued_ ODMOE_GUARDED_BY(mutex_);
  Ring<ReadCompletion> completed_ ODMOE_GUARDED_BY(mutex_);
  bool woken_ ODMOE_GUARDED_BY(mutex_) = false;
  bool stopping_ ODMOE_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<AsyncReader>> make_pread_reader(const ReaderOptions& options) {
  auto reader = std::make_unique<PreadReader>(options);
  ODMOE_RETURN_IF_ERROR(reader->start());
  return reader;
}

}  // namespace odmoe
