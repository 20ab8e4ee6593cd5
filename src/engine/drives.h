// What is known of the drives that a model lies on: looked up, or tried out and kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "io/async_reader.h"
#include "io/drive_probe.h"
#include "odmoe/result.h"

namespace odmoe {

using MakeReader = std::function<Result<std::unique_ptr<AsyncReader>>(const ReaderOptions&)>;

struct DriveSetup {
  std::filesystem::path drive_file;  // io/drive_file.h; empty: profiles are neither looked up nor kept
  bool look_up = true;               // false: try the drive out though it is known
  ReaderOptions reader;              // its depth is not looked at
  MakeReader make_reader;
  const Clock* clock = &SteadyClock::instance();
  uint64_t memory_bytes = kProbeBytes;  // most that the reads may land in
  ProbeOptions probe;
};

struct KnownDrive {
  DriveProfile profile;
  bool measured = false;  // just now, and not looked up
  std::string name;       // for people
};

// The drive on which `files` lie (the first decides).  Nothing when it cannot be tried out, because its files
// are smaller than kProbeFileBytes or a read fails, which is logged; that it cannot be kept is logged as well.
// The only error is kInterrupted, from the probe's progress.
Result<std::optional<KnownDrive>> know_drive(const std::vector<std::filesystem::path>& files,
                                             const DriveSetup& setup);

}  // namespace odmoe
