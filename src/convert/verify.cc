#include "convert/verify.h"

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "convert/ordered_pipeline.h"
#include "io/range_reader.h"
#include "odmoe/format.h"

namespace odmoe {
namespace {

constexpr uint64_t kPieceBytes = 4U << 20U;

struct Piece {
  size_t file = 0;
  size_t range = 0;
  uint64_t offset = 0;  // in the range
  uint64_t bytes = 0;
};

std::vector<Piece> cut(const std::vector<CheckedFile>& files) {
  std::vector<Piece> pieces;
  for (size_t f = 0; f < files.size(); ++f) {
    for (size_t r = 0; r < files[f].ranges.size(); ++r) {
      const uint64_t bytes = files[f].ranges[r].bytes;
      uint64_t done = 0;
      do {
        const uint64_t next = std::min(kPieceBytes, bytes - done);
        pieces.push_back({.file = f, .range = r, .offset = done, .bytes = next});
        done += next;
      } while (done < bytes);
    }
  }
  return pieces;
}

}  // namespace

Result<std::vector<Damage>> check_files(const std::vector<CheckedFile>& files,
                                        const std::function<bool(uint64_t, uint64_t)>& progress) {
  const std::vector<Piece> pieces = cut(files);
  uint64_t total = 0, done = 0;
  for (const Piece& piece : pieces) total += piece.bytes;

  const RangeReader reader;
  std::vector<Status> outcomes(pieces.size());  // of the reads: each set by one thread, read after it
  std::vector<Damage> damages;
  Checksum checksum;
  bool unreadable = false;  // a piece of the current range
  const auto fill = [&](size_t item, std::span<std::byte> buffer) -> Status {
    const Piece& piece = pieces[item];
    const CheckedFile& file = files[piece.file];
    if (piece.bytes > 0) {
      outcomes[item] =
          reader.read(file.path, file.ranges[piece.range].offset + piece.offset, buffer.first(piece.bytes));
    }
    return {};
  };
  const auto drain = [&](size_t item, std::span<std::byte> buffer) -> Status {
    const Piece& piece = pieces[item];
    const CheckedFile& file = files[piece.file];
    const CheckedFile::Range& range = file.ranges[piece.range];
    if (piece.offset == 0) {
      checksum.reset();
      unreadable = false;
    }
    if (!outcomes[item].has_value()) {
      if (!unreadable) damages.push_back({piece.file, outcomes[item].error().message});
      unreadable = true;
    }
    checksum.add(buffer.first(piece.bytes));
    if (piece.offset + piece.bytes == range.bytes && !unreadable && checksum.value() != range.checksum) {
      damages.push_back({piece.file, odmoe::format("{}: {} is damaged", file.path.string(), range.name)});
    }
    done += piece.bytes;
    if (progress && !progress(done, total)) return fail(ErrorKind::kInterrupted, "interrupted");
    return {};
  };
  ODMOE_RETURN_IF_ERROR(run_ordered(
      {.n_item = pieces.size(), .buffer_bytes = kPieceBytes, .n_buffer = 8, .n_thread = 4}, fill, drain));
  return damages;
}

std::vector<CheckedFile> files_to_check(const ExpertManifest& manifest,
                                        const std::filesystem::path& directory) {
  std::vector<CheckedFile> files;
  for (const ExpertManifest::File& file : manifest.files) {
    files.push_back(
        {.path = directory / file.path,
         .ranges = {{.name = "the file", .offset = 0, .bytes = file.bytes, .checksum = file.checksum}}});
  }
  for (const ExpertManifest::Layer& layer : manifest.layers) {
    const bool packed = manifest.layout == ExpertManifest::Layout::kPacked;
    if (packed && layer.n_record() > 0)
      files.push_back({.path = directory / manifest.expert_path(layer.layer, 0), .ranges = {}});
    for (int record = 0; record < layer.n_record(); ++record) {
      const int32_t expert = layer.expert_of(record);
      if (!packed)
        files.push_back({.path = directory / manifest.expert_path(layer.layer, expert), .ranges = {}});
      add_record_ranges(layer, layer.first_offset + static_cast<uint64_t>(record) * layer.stride,
                        layer.checksums[static_cast<size_t>(record)],
                        odmoe::format("expert {} of layer {}", expert, layer.layer), files.back().ranges);
    }
  }
  return files;
}

void add_record_ranges(const ExpertManifest::Layer& layer, uint64_t offset, const RecordChecksums& checksums,
                       const std::string& expert, std::vector<CheckedFile::Range>& ranges) {
  const uint64_t gate_up_bytes = layer.gate_up_bytes();
  ranges.push_back({.name = "the gate and up section of " + expert,
                    .offset = offset,
                    .bytes = gate_up_bytes,
                    .checksum = checksums.gate_up});
  ranges.push_back({.name = "the down section of " + expert,
                    .offset = offset + gate_up_bytes,
                    .bytes = layer.record_bytes - gate_up_bytes,
                    .checksum = checksums.down});
}

}  // namespace odmoe
