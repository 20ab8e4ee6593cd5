#include "model/weight_digest.h"

namespace odmoe {

WeightDigest::WeightDigest(size_t n_piece) : digests_(n_piece), thread_([this] { run(); }) {}

WeightDigest::~WeightDigest() {
  {
    const std::lock_guard lock(mutex_);
    waiting_.clear();
    done_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void WeightDigest::add(size_t piece, std::span<const std::byte> bytes) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.emplace_back(piece, bytes);
  }
  changed_.notify_one();
}

std::vector<Fingerprint::Value> WeightDigest::finish() {
  {
    const std::lock_guard lock(mutex_);
    done_ = true;
  }
  changed_.notify_one();
  thread_.join();
  return std::move(digests_);
}

void WeightDigest::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return done_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const auto [piece, bytes] = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    digests_[piece] = Fingerprint::of(bytes);
    lock.lock();
  }
}

}  // namespace odmoe
