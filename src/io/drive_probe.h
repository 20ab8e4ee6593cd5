// What a drive can do, found by reading from it: how many reads in flight it takes, and how large, to get
// its bandwidth.
//
// Drives differ (one is at its best with two reads in flight, another with sixty-four), so nothing is
// assumed.  Reads go to random places of the model's own files, with the alignment and the reader that the
// store will use, into memory like the store's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "base/clock.h"
#include "io/async_reader.h"
#include "odmoe/result.h"

namespace odmoe {

// Reads of one size with one number of them in flight.
struct ProbePoint {
  uint32_t read_bytes = 0;
  uint32_t depth = 0;
  uint64_t n_read = 0;
  double bytes_per_second = 0;
  int64_t p50_us = 0, p95_us = 0, p99_us = 0;  // from submission to completion
};

// What is remembered of a drive.
struct DriveProfile {
  uint32_t depth = 0;  // the fewest reads in flight that bring 95 % of the best at read_bytes, at least 4
  uint32_t read_bytes = 0;      // the smallest size that brings 90 % of the best with many in flight
  double bytes_per_second = 0;  // the best seen
  int64_t latency_us = 0;       // median of a single read of read_bytes with nothing else in flight
  bool operator==(const DriveProfile&) const = default;
};

// Measures points.  The memory and the reader, which has its files and nothing in flight, must outlive it.
// One owner.
class DriveProbe {
 public:
  // Reads may land in the same place when `memory` is small: what they bring is not looked at.  It must hold
  // one read of the largest size, aligned as the reader asks.
  DriveProbe(AsyncReader& reader, std::span<std::byte> memory, const Clock& clock, uint64_t seed = 1);

  // Keeps `depth` reads of `read_bytes` in flight until `limit_us` have passed, then waits for the last; at
  // least `depth` reads are made.  `read_bytes` is a multiple of the alignment, at most the memory; depth at
  // most the reader's.
  // Errors: kIo naming the file when a read fails; kUnsupported when no file is as large as one read.
  Result<ProbePoint> measure(uint32_t read_bytes, uint32_t depth, int64_t limit_us);

 private:
  ReadRequest random_read(uint32_t read_bytes, uint32_t place);

  AsyncReader& reader_;
  std::span<std::byte> memory_;
  const Clock& clock_;
  std::minstd_rand random_;
  std::vector<uint64_t> weights_;  // places that a read may begin at, by file, summed up
  std::vector<int64_t> begin_us_;  // by read in flight
  std::vector<int64_t> latencies_us_;
};

struct ProbeOptions {
  int64_t limit_us = 1'500'000;          // for all of it; a slow drive is asked less
  std::span<const uint32_t> read_bytes;  // ascending; empty: 64 KiB to 4 MiB
  std::span<const uint32_t> depths;      // ascending; empty: 1 to 64
  // Told of every point as it is measured, and how much is done, 0 to 1; false ends the probe with
  // kInterrupted.
  std::function<bool(const ProbePoint&, double done)> progress;
};

// However fast the drive, something must be queued while a completion is on its way to us and the next read
// on its way back.
inline constexpr uint32_t kLeastDepth = 4;
inline constexpr uint32_t kProbeDepth = 64;             // most in flight, if the reader's depth allows
inline constexpr uint64_t kProbeBytes = 16U << 20U;     // of memory for the reads: enough, and always at hand
inline constexpr uint64_t kProbeFileBytes = 1U << 28U;  // less than this says little: a drive's cache answers

// Finds the size with the greatest depth first, then the depth at that size, twice each in turn, since
// others may use the drive as well.
Result<DriveProfile> probe_drive(AsyncReader& reader, std::span<std::byte> memory, const Clock& clock,
                                 const ProbeOptions& options);

// The first of `points` that brings this share of the bandwidth of the best of them; `points` is not empty.
const ProbePoint& knee(std::span<const ProbePoint> points, double share);

// Reads of `slice_bytes`, if those are smaller than the profile's, wanted in flight: as many bytes as the
// drive asks for, at most kProbeDepth reads.
uint32_t depth_for(const DriveProfile& profile, uint64_t slice_bytes);

}  // namespace odmoe
