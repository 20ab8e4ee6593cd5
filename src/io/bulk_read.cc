#include "io/bulk_read.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>
#include <optional>
#include <system_error>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/units.h"
#include "io/pending_read.h"

namespace odmoe {
namespace {

// A read of one piece, and where its bytes go if they land in a bounce buffer first.
struct Piece {
  PendingRead read;
  std::byte* bounce = nullptr;  // null: the read lands in its destination
  uint32_t skip = 0;            // bytes at the front of the bounce buffer that nobody asked for
  std::span<std::byte> target;  // where the bytes belong
  size_t range = 0;             // of which they are a part
};

// Cuts the ranges into pieces, one after the other.
class Cutter {
 public:
  Cutter(std::span<const BulkRange> ranges, ReadAlignment alignment, uint32_t piece_bytes)
      : ranges_(ranges), alignment_(alignment), piece_bytes_(piece_bytes) {
    skip_empty();
  }

  bool done() const { return range_ == ranges_.size(); }

  // `bounce` is used where the read cannot land in the destination, and is then set in the piece.
  Piece next(std::byte* bounce) {
    const BulkRange& range = ranges_[range_];
    const uint64_t offset = range.offset + done_;
    const uint64_t left = range.destination.size() - done_;
    std::byte* const target = range.destination.data() + done_;
    Piece piece;
    const uint64_t start = round_down(offset, alignment_.offset_bytes);
    const bool aligned = start == offset &&
                         reinterpret_cast<uintptr_t>(target) % alignment_.memory_bytes == 0 &&
                         left >= alignment_.offset_bytes;
    uint64_t bytes = 0;  // of the range, that this piece brings
    if (aligned) {
      bytes = round_down(std::min<uint64_t>(left, piece_bytes_), alignment_.offset_bytes);
      const auto length = static_cast<uint32_t>(bytes);
      piece.read = {
          .file = range.file, .offset = start, .bytes = length, .needed = length, .destination = target};
    } else {
      const uint64_t end = std::min(start + piece_bytes_, offset + left);
      bytes = end - offset;
      piece.bounce = bounce;
      piece.skip = static_cast<uint32_t>(offset - start);
      piece.read = {.file = range.file,
                    .offset = start,
                    .bytes = static_cast<uint32_t>(round_up(end - start, alignment_.offset_bytes)),
                    .needed = static_cast<uint32_t>(end - start),
                    .destination = bounce};
    }
    piece.target = {target, bytes};
    piece.range = range_;
    done_ += bytes;
    skip_empty();
    return piece;
  }

 private:
  void skip_empty() {
    while (range_ < ranges_.size() && done_ == ranges_[range_].destination.size()) {
      ++range_;
      done_ = 0;
    }
  }

  std::span<const BulkRange> ranges_;
  ReadAlignment alignment_;
  uint32_t piece_bytes_;
  size_t range_ = 0;
  uint64_t done_ = 0;  // bytes of the current range that have been cut
};

std::unexpected<Error> too_short(const AsyncReader& reader, int file, uint64_t offset) {
  return fail(ErrorKind::kBadFile,
              "{} ends before byte {}, where data should be; it is truncated: fetch it again",
              reader.path(file).string(), offset);
}

std::unexpected<Error> read_error(const AsyncReader& reader, const PendingRead& read) {
  if (read.error == 0) return too_short(reader, read.file, read.offset + read.needed);
  return fail(ErrorKind::kIo, "reading {} at byte {} failed {} times: {}; check the drive",
              reader.path(read.file).string(), read.offset, read.failures,
              std::generic_category().message(read.error));
}

}  // namespace

Status bulk_read(AsyncReader& reader, std::span<const BulkRange> ranges, const BulkReadOptions& options) {
  assert(reader.in_flight() == 0);
  for (const BulkRange& range : ranges) {
    const uint64_t have = reader.file_bytes(range.file);
    if (range.offset > have || range.destination.size() > have - range.offset) {
      return too_short(reader, range.file, range.offset + range.destination.size());
    }
  }

  // Every piece in flight owns a part of the bounce memory, whether it needs it or not: simple, and the
  // memory is touched only where it is used.
  const ReadAlignment alignment = reader.alignment();
  const uint64_t unit = std::max(alignment.offset_bytes, alignment.memory_bytes);
  const uint64_t limit = std::max(unit, round_down(options.max_bounce_bytes, unit));
  const uint64_t piece_bytes = std::clamp(round_up(options.piece_bytes, unit), unit, limit);
  const auto n_buffer = static_cast<size_t>(std::clamp<uint64_t>(limit / piece_bytes, 1, reader.depth()));
  ODMOE_ASSIGN_OR_RETURN(const AlignedBuffer bounce, AlignedBuffer::allocate(piece_bytes * n_buffer));

  std::vector<Piece> pieces(n_buffer);
  std::vector<size_t> free_buffers(n_buffer);
  for (size_t i = 0; i < n_buffer; ++i) free_buffers[i] = n_buffer - 1 - i;
  Cutter cutter(ranges, alignment, static_cast<uint32_t>(piece_bytes));
  std::array<ReadCompletion, 32> done{};
  struct Retry {
    size_t buffer = 0;
    int64_t due_us = 0;
  };
  std::vector<Retry> retries;  // oldest first
  uint64_t bytes_done = 0;
  std::vector<uint64_t> bytes_left;  // of every range
  for (const BulkRange& range : ranges) bytes_left.push_back(range.destination.size());
  std::optional<Error> error;  // once set, only the reads in flight are waited for

  while (true) {
    while (!error && !cutter.done() && !free_buffers.empty()) {
      const size_t buffer = free_buffers.back();
      free_buffers.pop_back();
      pieces[buffer] = cutter.next(bounce.data() + buffer * piece_bytes);
      reader.submit(pieces[buffer].read.request(buffer));
    }
    if (error) retries.clear();
    std::optional<std::chrono::microseconds> pause;
    if (!retries.empty()) {
      const int64_t now_us = options.clock->now_us();
      std::erase_if(retries, [&](const Retry& retry) {
        if (retry.due_us > now_us) return false;
        reader.submit(pieces[retry.buffer].read.request(retry.buffer));
        return true;
      });
      for (const Retry& retry : retries) {
        const std::chrono::microseconds left(retry.due_us - now_us);
        pause = pause ? std::min(*pause, left) : left;
      }
    }
    if (reader.in_flight() == 0 && retries.empty()) break;
    const size_t count = reader.wait(done, pause);
    for (const ReadCompletion& completion : std::span(done).first(count)) {
      Piece& piece = pieces[completion.id];
      const int failures_before = piece.read.failures;
      const ReadOutcome outcome = advance(piece.read, completion.result, alignment, options.attempts);
      if (outcome == ReadOutcome::kAgain && !error) {
        const bool nothing = piece.read.failures > failures_before;
        const int64_t pause_us = nothing ? backoff_us(piece.read) : 0;
        retries.push_back({completion.id, options.clock->now_us() + pause_us});
        continue;
      }
      if (outcome == ReadOutcome::kFailed && !error) error = read_error(reader, piece.read).error();
      if (outcome == ReadOutcome::kDone) {
        if (piece.bounce != nullptr) {
          std::memcpy(piece.target.data(), piece.bounce + piece.skip, piece.target.size());
        }
        bytes_done += piece.target.size();
        bytes_left[piece.range] -= piece.target.size();
        if (bytes_left[piece.range] == 0 && options.range_done) options.range_done(piece.range);
      }
      free_buffers.push_back(completion.id);
    }
    if (count > 0 && !error && options.progress && !options.progress(bytes_done)) {
      error = Error{ErrorKind::kInterrupted, "reading was interrupted"};
    }
  }
  if (error) return std::unexpected(std::move(*error));
  return {};
}

}  // namespace odmoe
