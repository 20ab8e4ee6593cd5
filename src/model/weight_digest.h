// What the bytes of weights are, taken while the drive still brings others: no start is longer for it.
#pragma once

#include <cstddef>
#include <deque>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "base/fingerprint.h"
#include "base/mutex.h"

namespace odmoe {

// Has a thread of its own.  One owner.
class WeightDigest {
 public:
  explicit WeightDigest(size_t n_piece);
  ~WeightDigest();
  WeightDigest(const WeightDigest&) = delete;
  WeightDigest& operator=(const WeightDigest&) = delete;

  // A piece is there, and stays as it is until finish().
  void add(size_t piece, std::span<const std::byte> bytes);
  // Of all pieces in order, however they came; those that were not added are all zero.
  std::vector<Fingerprint::Value> finish();

 private:
  void run();

  std::vector<Fingerprint::Value> digests_;  // of the thread until it ends
  Mutex mutex_;
  Condition changed_;
  std::deque<std::pair<size_t, std::span<const std::byte>>> waiting_
      ODMOE_GUARDED_BY(mutex_);  // never more than there are pieces
  bool done_ ODMOE_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace odmoe
