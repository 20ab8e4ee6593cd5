// What is known of the drives that a model lies on: looked up, or tried out and kept.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "format/expert_source.h"
#include "io/async_reader.h"
#include "io/drive_probe.h"
#include "odmoe/options.h"
#include "odmoe/result.h"
#include "store/expert_store.h"

namespace odmoe {

using MakeReader = std::function<Result<std::unique_ptr<AsyncReader>>(const ReaderOptions&)>;

struct DriveSetup {
  std::filesystem::path drive_file;  // io/drive_file.h; empty: profiles are neither looked up nor kept
  bool look_up = true;               // false: try the drive out though it is known
  ReaderOptions reader;              // its depth is not looked at
  MakeReader make_reader;
  const Clock* clock = &SteadyClock::instance();
  uint64_t memory_bytes = kProbeBytes;     // most that the reads may land in
  uint64_t least_bytes = kProbeFileBytes;  // fewer than these in the files say nothing about the drive
  ProbeOptions probe;
};

struct KnownDrive {
  DriveProfile profile;
  bool measured = false;  // just now, and not looked up
  std::string name;       // for people
};

// The drive on which `files` lie (the first decides).  Nothing when it cannot be tried out, because its files
// are too small or a read fails, which is logged; that it cannot be kept is logged as well.
// The only error is kInterrupted, from the probe's progress.
Result<std::optional<KnownDrive>> know_drive(const std::vector<std::filesystem::path>& files,
                                             const DriveSetup& setup);

// The model's files, or those of a mirror, and what is known of their drive.
struct ModelCopy {
  std::vector<std::filesystem::path> files;
  std::optional<KnownDrive> drive;
};

ReaderKind reader_kind(ReaderChoice choice);

struct KnowDrivesOptions {
  const EngineOptions& options;
  uint64_t arena_bytes = 0;  // which is not there yet
  MakeReader make_reader;
  const Clock* clock = &SteadyClock::instance();
  const std::atomic<bool>* interrupted = nullptr;  // may be null
};
// Tries out the drives of an engine's copies that are not known yet, where it may and pays.  kInterrupted.
Status know_drives(std::vector<ModelCopy>& copies, const ExpertSource& source,
                   const KnowDrivesOptions& options);

inline constexpr uint32_t kDefaultDepth = 32;  // of a drive of which nothing is known
inline constexpr uint32_t kMaxReaderDepth = 1024;

// How the store is to read from the copies, the model's own first: fills in depth, bandwidth, mirrors and the
// size of a read.  `read_depth` above 0 overrules what the drives ask for, which is twice the
// depth that was found for their reads.  Returns the depth that the reader
// must have.
uint32_t plan_reads(const ExpertSource& source, const std::vector<ModelCopy>& copies, int32_t read_depth,
                    ExpertStoreOptions& options);

}  // namespace odmoe
