#include "model/weight_digest.h"

#include "base/mutex.h"

namespace odmoe {

WeightDigest::WeightDigest(size_t n_piece) : digests_(n_piece), thread_([this] { run(); }) {}

WeightDigest::~WeightDigest() {
  {
    const MutexLock lock(mutex_);
    waiting_.clear();
    done_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void WeightDigest::add(size_t piece, std::span<const std::byte> bytes) {
  {
    const MutexLock lock(mutex_);
    waiting_.emplace_back(piece, bytes);
  }
  changed_.notify_one();
}

std::vector<Fingerprint::Value> WeightDigest::finish() {
  {
    const MutexLock lock(mutex_);
    done_ = true;
  }
  changed_.notify_one();
  thread_.join();
  return std::move(digests_);
}

void WeightDigest::run() {
  MutexLock lock(mutex_);
  while (true) {
    while (!done_ && waiting_.empty()) changed_.wait(mutex_);
    if (waiting_.empty()) return;
    const auto [piece, bytes] = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    digests_[piece] = Fingerprint::of(bytes);
    lock.lock();
  }
}

}  // namespace odmoe
