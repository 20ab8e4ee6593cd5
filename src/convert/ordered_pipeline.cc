#include "convert/ordered_pipeline.h"

#include <algorithm>

#include "base/joining_thread.h"
#include "base/mutex.h"

namespace odmoe {
namespace {

using Step = std::function<Status(size_t item, std::span<std::byte> buffer)>;

class Pipeline {
 public:
  Pipeline(const OrderedPipelineOptions& options, std::vector<AlignedBuffer> buffers)
      : options_(options), buffers_(std::move(buffers)), filled_(buffers_.size(), false) {}

  // One of the filling threads.
  void fill_all(const Step& fill) {
    MutexLock lock(mutex_);
    while (true) {
      while (status_.has_value() && next_ < options_.n_item && next_ >= drained_ + buffers_.size()) {
        changed_.wait(mutex_);
      }
      if (!status_.has_value() || next_ == options_.n_item) return;
      const size_t item = next_++;
      lock.unlock();
      Status status = fill(item, buffer(item));
      lock.lock();
      filled_[item % buffers_.size()] = true;
      if (!status.has_value() && status_.has_value()) status_ = std::move(status);
      changed_.notify_all();
    }
  }

  void drain_all(const Step& drain) {
    MutexLock lock(mutex_);
    for (; drained_ < options_.n_item; ++drained_) {
      changed_.notify_all();
      const size_t item = drained_;
      const size_t place = item % buffers_.size();
      while (status_.has_value() && !filled_[place]) changed_.wait(mutex_);
      if (!status_.has_value()) return;
      lock.unlock();
      Status status = drain(item, buffer(item));
      lock.lock();
      filled_[place] = false;
      if (!status.has_value()) {
        if (status_.has_value()) status_ = std::move(status);
        changed_.notify_all();
        return;
      }
    }
    changed_.notify_all();
  }

  Status status() {
    const MutexLock lock(mutex_);
    return status_;
  }

 private:
  std::span<std::byte> buffer(size_t item) { return buffers_[item % buffers_.size()].span(); }

  OrderedPipelineOptions options_;
  std::vector<AlignedBuffer> buffers_;
  Mutex mutex_;
  Condition changed_;
  std::vector<bool> filled_ ODMOE_GUARDED_BY(mutex_);  // by place
  size_t next_ ODMOE_GUARDED_BY(mutex_) = 0;           // to be filled
  size_t drained_ ODMOE_GUARDED_BY(mutex_) = 0;
  Status status_ ODMOE_GUARDED_BY(mutex_);
};

}  // namespace

Status run_ordered(const OrderedPipelineOptions& options, const Step& fill, const Step& drain) {
  std::vector<AlignedBuffer> buffers;
  for (int i = 0; i < options.n_buffer; ++i) {
    ODMOE_ASSIGN_OR_RETURN(AlignedBuffer buffer, AlignedBuffer::allocate(options.buffer_bytes));
    buffers.push_back(std::move(buffer));
  }
  Pipeline pipeline(options, std::move(buffers));
  {
    std::vector<JoiningThread> threads;
    for (int i = 0; i < options.n_thread; ++i) threads.emplace_back([&] { pipeline.fill_all(fill); });
    pipeline.drain_all(drain);
  }
  return pipeline.status();
}

}  // namespace odmoe
