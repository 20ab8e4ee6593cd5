#include "engine/drives.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/units.h"
#include "io/drive_file.h"
#include "io/drive_identity.h"

namespace odmoe {
namespace {

constexpr int64_t kProbeUs = 1'500'000;  // for all drives together

Result<DriveProfile> try_out(AsyncReader& reader, const DriveSetup& setup) {
  // On large pages, as the store's arena is: what a drive brings depends on them.
  ODMOE_ASSIGN_OR_RETURN(
      const AlignedBuffer memory,
      AlignedBuffer::allocate(round_down(std::min(setup.memory_bytes, kProbeBytes), 4096), true));
  return probe_drive(reader, memory.span(), *setup.clock, setup.probe);
}

}  // namespace

Result<std::optional<KnownDrive>> know_drive(const std::vector<std::filesystem::path>& files,
                                             const DriveSetup& setup) {
  const DriveIdentity drive = identify_drive(files.front());
  ReaderOptions options = setup.reader;
  options.depth = kProbeDepth;
  auto reader = setup.make_reader(options);
  uint64_t bytes = 0;
  for (const std::filesystem::path& file : files) {
    if (!reader.has_value()) break;
    if (const auto added = (*reader)->add_file(file); !added.has_value())
      reader = std::unexpected(added.error());
    if (reader.has_value()) bytes += (*reader)->file_bytes((*reader)->n_file() - 1);
  }
  if (!reader.has_value()) {
    spdlog::warn("{} is not tried out: {}", drive.name, reader.error().message);
    return std::nullopt;
  }

  const bool direct = (*reader)->alignment().offset_bytes > 1;
  const std::string key =
      drive_key(drive.id, std::string((*reader)->name()) + (direct ? ", direct" : ", buffered"));
  if (setup.look_up && !setup.drive_file.empty()) {
    if (const auto profile = load_profile(setup.drive_file, key)) {
      return KnownDrive{.profile = *profile, .measured = false, .name = drive.name};
    }
  }
  if (bytes < setup.least_bytes || setup.memory_bytes < kMiB) return std::nullopt;

  const auto profile = try_out(**reader, setup);
  if (!profile.has_value()) {
    if (profile.error().kind == ErrorKind::kInterrupted) return std::unexpected(profile.error());
    spdlog::warn("{} is not tried out: {}", drive.name, profile.error().message);
    return std::nullopt;
  }
  spdlog::info("{}: {}/s with {} reads of {} in flight", drive.name,
               format_bytes(static_cast<uint64_t>(profile->bytes_per_second)), profile->depth,
               format_bytes(profile->read_bytes));
  if (!setup.drive_file.empty()) {
    const Status kept = save_profile(setup.drive_file, key, *profile);
    if (!kept.has_value()) spdlog::warn("{}; it is tried out again next time", kept.error().message);
  }
  return KnownDrive{.profile = *profile, .measured = true, .name = drive.name};
}

ReaderKind reader_kind(ReaderChoice choice) {
  switch (choice) {
    case ReaderChoice::kAuto:
      return ReaderKind::kAuto;
    case ReaderChoice::kIoUring:
      return ReaderKind::kIoUring;
    case ReaderChoice::kPread:
      return ReaderKind::kPread;
  }
  return ReaderKind::kAuto;
}

Status know_drives(std::vector<ModelCopy>& copies, const ExpertSource& source,
                   const KnowDrivesOptions& options) {
  const bool reads_again = options.arena_bytes < source.total_bytes();  // or else each expert is read once
  if (options.options.drive_file.empty() || !reads_again) return {};
  DriveSetup setup{.drive_file = options.options.drive_file,
                   .reader = {.kind = reader_kind(options.options.reader), .direct = true},
                   .make_reader = options.make_reader,
                   .clock = options.clock,
                   .memory_bytes = options.arena_bytes};
  setup.probe.limit_us = kProbeUs / static_cast<int64_t>(copies.size());
  setup.probe.progress = [&options](const ProbePoint&, double) {
    return options.interrupted == nullptr || !options.interrupted->load(std::memory_order_relaxed);
  };
  for (ModelCopy& copy : copies) {
    ODMOE_ASSIGN_OR_RETURN(copy.drive, know_drive(copy.files, setup));
  }
  return {};
}

uint32_t plan_reads(const ExpertSource& source, const std::vector<ModelCopy>& copies, int32_t read_depth,
                    ExpertStoreOptions& options) {
  uint64_t slice_bytes = 0;  // the largest: what most of the bytes are read in
  for (int layer = 0; layer < source.n_layer(); ++layer) {
    if (source.n_expert(layer) == 0) continue;
    for (const auto& slice : source.layout(layer).slices) slice_bytes = std::max(slice_bytes, slice.bytes);
  }
  uint32_t total_depth = 0, read_bytes = 0;
  for (size_t i = 0; i < copies.size(); ++i) {
    const auto& drive = copies[i].drive;
    // Demands go first (read_scheduler.h), so a queue deeper than needed costs them nothing, and keeps the
    // drive busy while a completion travels to us and the next read back.
    uint32_t depth = kDefaultDepth;
    if (drive) {
      const uint32_t enough = depth_for(drive->profile, slice_bytes);
      depth = std::clamp(2 * enough, 4 * kLeastDepth, std::max(enough, kProbeDepth));
    }
    if (read_depth > 0) depth = static_cast<uint32_t>(read_depth);
    const double bytes_per_second = drive ? drive->profile.bytes_per_second : 0;
    if (drive) read_bytes = std::max(read_bytes, drive->profile.read_bytes);
    total_depth += depth;
    if (i == 0) {
      options.depth = depth;
      options.bytes_per_second = bytes_per_second;
    } else {
      options.mirrors.push_back(
          {.files = copies[i].files, .depth = depth, .bytes_per_second = bytes_per_second});
    }
  }
  if (read_bytes > 0) options.read_bytes = read_bytes;
  return std::min(total_depth, kMaxReaderDepth);
}

}  // namespace odmoe
