// What the bytes of weights are, taken while the drive still brings others: no start is longer for it.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "base/fingerprint.h"

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
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<size_t, std::span<const std::byte>>> waiting_;  // never more than there are pieces
  bool done_ = false;
  std::thread thread_;
};

}  // namespace odmoe
