#include "store/read_scheduler.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/units.h"

namespace odmoe {

void ReadScheduler::Queue::push(int32_t slot) {
  assert(count_ < items_.size());
  items_[at(count_++)] = slot;
}

void ReadScheduler::Queue::pop() {
  assert(count_ > 0);
  first_ = at(1);
  --count_;
}

void ReadScheduler::Queue::remove(int32_t slot) {
  size_t kept = 0;
  for (size_t i = 0; i < count_; ++i) {
    if (items_[at(i)] != slot) items_[at(kept++)] = items_[at(i)];
  }
  count_ = kept;
}

ReadScheduler::ReadScheduler(const ExpertSource& source, std::vector<ReadCopy> copies, const Limits& limits)
    : source_(source),
      limits_(limits),
      loads_(static_cast<size_t>(limits.n_slot)),
      demand_(loads_.size()),
      prefetch_(loads_.size()),
      fill_(loads_.size()),
      // A piece that waits to be tried again keeps its place.  Of these prefetches and fills have no more
      // than their shares of the depth, so demands always find one.
      pieces_(size_t{3} * limits.depth) {
  assert(!copies.empty());
  fill_depth_ = std::max(limits.depth / 2, 1U);
  set_prefetch_depth(PrefetchDepth::kFew);
  for (ReadCopy& copy : copies) copies_.push_back({.copy = std::move(copy)});
  const bool known =
      std::ranges::all_of(copies_, [](const CopyState& state) { return state.copy.bytes_per_second > 0; });
  if (!known) {
    for (CopyState& state : copies_) state.copy.bytes_per_second = 1;
  }
  const uint32_t unit = std::max(limits.alignment.offset_bytes, limits.alignment.memory_bytes);
  limits_.read_bytes = std::max(unit, limits.read_bytes / unit * unit);
  free_pieces_.reserve(pieces_.size());
  retries_.reserve(pieces_.size());
  for (auto i = static_cast<uint32_t>(pieces_.size()); i-- > 0;) free_pieces_.push_back(i);
}

void ReadScheduler::set_prefetch_depth(PrefetchDepth depth) {
  const PrefetchLimits& limits = depth == PrefetchDepth::kFew ? kFew : kMany;
  prefetch_depth_ = std::clamp(limits_.depth / limits.depth_divisor, 1U, limits.reads);
}

void ReadScheduler::add(int32_t slot, ExpertKey key, const SlotLayout& layout, std::byte* destination,
                        Priority priority, RecordSection section) {
  Load& load = loads_[static_cast<size_t>(slot)];
  assert(load.n_out == 0);
  load = {.key = key,
          .layout = &layout,
          .destination = destination,
          .priority = priority,
          .section = section,
          .ended = false};
  load.gate_up_left = section == RecordSection::kAll ? gate_up_bytes(load) : 0;
  skip_empty_extents(load);
  assert(load.extent < layout.extents.size());
  queue(priority).push(slot);
  if (priority != Priority::kDemand) return;
  ++n_demand_load_;
  fill_window_ = kFillBytes;
}

void ReadScheduler::promote(int32_t slot) {
  Load& load = loads_[static_cast<size_t>(slot)];
  // One that has ended is promoted, too, when it is leased before the store has looked at what arrived.
  if (load.ended || load.priority == Priority::kDemand) return;
  const Priority before = std::exchange(load.priority, Priority::kDemand);
  ++n_demand_load_;
  fill_window_ = kFillBytes;
  if (load.failed || load.extent == load.layout->extents.size()) return;  // nothing waits
  queue(before).remove(slot);
  demand_.push(slot);
}

bool ReadScheduler::demand_waiting() const {
  return !demand_.empty() || std::ranges::any_of(retries_, [this](uint32_t token) {
    return loads_[static_cast<size_t>(pieces_[token].slot)].priority == Priority::kDemand;
  });
}

bool ReadScheduler::wants_prefetch() const {
  return prefetch_.empty() && room_for_prefetch() && prefetch_out_bytes_ < kPrefetchBytes &&
         in_flight_ < limits_.depth && drive_idles();
}

bool ReadScheduler::room_for_prefetch() const {
  return prefetch_out_ < prefetch_depth_ && (topping_up_ || few_are_left());
}

bool ReadScheduler::drive_idles() const {
  if (n_demand_load_ == 0) return true;
  if (!demand_.empty()) return false;
  uint64_t bytes = 0;
  for (const CopyState& copy : copies_)
    bytes += std::max(copy.outstanding_bytes, copy.in_flight * kLeastCostBytes);
  return bytes < kIdleBytes;
}

std::optional<int64_t> ReadScheduler::next_retry_us(int64_t now_us) const {
  std::optional<int64_t> first;
  for (const uint32_t token : retries_) {
    const int64_t due_us = pieces_[token].due_us;
    if (due_us > now_us) first = std::min(first.value_or(due_us), due_us);
  }
  return first;
}

int ReadScheduler::n_live_copy() const {
  return static_cast<int>(std::ranges::count(copies_, false, &CopyState::failed));
}

// The copy that would bring a piece first, whether its queue has room or not.
int ReadScheduler::choose_copy(uint32_t bytes, int not_this) const {
  int best = -1;
  double best_seconds = 0;
  for (int i = 0; i < static_cast<int>(copies_.size()); ++i) {
    const CopyState& state = copies_[static_cast<size_t>(i)];
    if (state.failed || i == not_this) continue;
    const double seconds = static_cast<double>(state.outstanding_bytes + bytes) / state.copy.bytes_per_second;
    if (best >= 0 && seconds >= best_seconds) continue;
    best = i;
    best_seconds = seconds;
  }
  return best;
}

ReadScheduler::Found ReadScheduler::take_retry(Priority priority, int64_t now_us, uint32_t& token) {
  bool full = false;
  for (auto entry = retries_.begin(); entry != retries_.end(); ++entry) {
    Piece& piece = pieces_[*entry];
    if (loads_[static_cast<size_t>(piece.slot)].priority != priority || piece.due_us > now_us) continue;
    const bool elsewhere = piece.read.failures > 0 && n_live_copy() > 1;
    const int copy = choose_copy(piece.read.bytes, elsewhere ? piece.copy : -1);
    const CopyState& state = copies_[static_cast<size_t>(copy)];
    if (state.in_flight == state.copy.depth) {
      full = true;
      continue;
    }
    piece.copy = copy;
    token = *entry;
    retries_.erase(entry);
    return Found::kPiece;
  }
  return full ? Found::kFull : Found::kNone;
}

ExtentRead ReadScheduler::next_read(const Load& load) const {
  const Extent& extent = load.layout->extents[load.extent];
  return section_read(
      load.section, extent,
      extent_read(extent, source_.locate(load.key, extent.first_slice).offset, limits_.alignment));
}

// What has to land until gate and up can be used; 0 where they cannot before the whole expert is moved into
// place, or where nothing else is to come.
uint64_t ReadScheduler::gate_up_bytes(const Load& load) const {
  uint64_t sum = 0;
  bool all = true;
  for (const Extent& extent : load.layout->extents) {
    const ExtentRead read =
        extent_read(extent, source_.locate(load.key, extent.first_slice).offset, limits_.alignment);
    if (read.data_offset != extent.canonical_offset) return 0;
    if (extent.gate_up_bytes > 0) sum += read.needed - extent.bytes + extent.gate_up_bytes;
    all = all && extent.gate_up_bytes == extent.bytes;
  }
  return all ? 0 : sum;
}

// The next piece of the extent that the load is at.
ReadScheduler::Piece ReadScheduler::cut(const Load& load) const {
  const Extent& extent = load.layout->extents[load.extent];
  const SliceLocation location = source_.locate(load.key, extent.first_slice);
  const ExtentRead read = next_read(load);
  // Pieces of about the same size, rather than large ones and a crumb: the last to arrive decides.
  const uint64_t most = load.priority == Priority::kPrefetch
                            ? std::min(limits_.read_bytes, kPrefetchPieceBytes)
                            : limits_.read_bytes;
  const uint64_t n_piece = (read.bytes + most - 1) / most;
  const uint64_t unit = std::max(limits_.alignment.offset_bytes, limits_.alignment.memory_bytes);
  const uint64_t piece_bytes = round_up((read.bytes + n_piece - 1) / n_piece, unit);
  const uint64_t bytes = std::min(piece_bytes, read.bytes - load.done);
  Piece piece{.read = {.offset = read.file_offset + load.done,
                       .bytes = static_cast<uint32_t>(bytes),
                       .needed = static_cast<uint32_t>(std::min(bytes, read.needed - load.done)),
                       .destination = load.destination + read.slot_offset + load.done},
              .slice = extent.first_slice,
              .file = location.file};
  const uint64_t gate_up_end = load.section == RecordSection::kAll && extent.gate_up_bytes > 0
                                   ? read.needed - extent.bytes + extent.gate_up_bytes
                                   : 0;
  if (gate_up_end > load.done) piece.gate_up_bytes = std::min(bytes, gate_up_end - load.done);
  // The slice that the piece begins in, for an error message.
  const auto& slices = source_.layout(load.key.layer).slices;
  uint64_t end = location.offset;
  for (int i = extent.first_slice; i < extent.first_slice + extent.n_slice; ++i) {
    if (piece.read.offset >= end) piece.slice = i;
    end += slices[static_cast<size_t>(i)].bytes;
  }
  return piece;
}

void ReadScheduler::advance_load(Load& load, uint32_t bytes) const {
  load.done += bytes;
  // What lies behind the last needed byte is padding up to a block, never a piece of its own.
  if (load.done >= next_read(load).needed) {
    ++load.extent;
    load.done = 0;
    skip_empty_extents(load);
  }
}

// Those that have nothing of the section that is read.
void ReadScheduler::skip_empty_extents(Load& load) const {
  while (load.extent < load.layout->extents.size() && next_read(load).needed == 0) ++load.extent;
}

ReadScheduler::Found ReadScheduler::take_new(Priority priority, uint32_t& token) {
  Queue& loads = queue(priority);
  if (loads.empty() || free_pieces_.empty()) return Found::kNone;
  const int32_t slot = loads.front();
  Load& load = loads_[static_cast<size_t>(slot)];
  Piece piece = cut(load);
  if (priority == Priority::kPrefetch && prefetch_out_ > 0 &&
      prefetch_out_bytes_ + piece.read.bytes > kPrefetchBytes) {
    return Found::kFull;
  }
  if (priority == Priority::kFill && fill_out_ > 0 && fill_out_bytes_ + piece.read.bytes > fill_window_) {
    return Found::kFull;
  }
  piece.slot = slot;
  piece.priority = priority;
  piece.cut_bytes = piece.read.bytes;
  piece.copy = choose_copy(piece.read.bytes, -1);
  const CopyState& state = copies_[static_cast<size_t>(piece.copy)];
  if (state.in_flight == state.copy.depth) return Found::kFull;
  token = free_pieces_.back();
  free_pieces_.pop_back();
  pieces_[token] = piece;
  ++load.n_out;
  advance_load(load, piece.read.bytes);
  if (load.extent == load.layout->extents.size()) loads.pop();
  if (priority == Priority::kPrefetch) {
    ++prefetch_out_;
    prefetch_out_bytes_ += piece.cut_bytes;
    topping_up_ = prefetch_out_ < prefetch_depth_;
  } else if (priority == Priority::kFill) {
    ++fill_out_;
    fill_out_bytes_ += piece.cut_bytes;
  }
  return Found::kPiece;
}

bool ReadScheduler::next(ReadRequest& request, int64_t now_us) {
  if (in_flight_ == limits_.depth) return false;
  uint32_t token = 0;
  Priority priority = Priority::kDemand;
  Found found = take_retry(priority, now_us, token);
  if (found == Found::kNone) found = take_new(priority, token);
  if (found == Found::kNone && drive_idles()) {
    priority = Priority::kPrefetch;
    found = take_retry(priority, now_us, token);
    if (found == Found::kNone && room_for_prefetch()) found = take_new(priority, token);
    if (found == Found::kNone && prefetch_.empty()) {
      priority = Priority::kFill;
      found = take_retry(priority, now_us, token);
      if (found == Found::kNone && room_for_fill()) found = take_new(priority, token);
    }
  }
  if (found != Found::kPiece) return false;
  Piece& piece = pieces_[token];
  if (priority == Priority::kDemand) leave(piece);
  piece.priority = priority;
  if (priority == Priority::kFill) ++fills_in_flight_;
  CopyState& state = copies_[static_cast<size_t>(piece.copy)];
  piece.read.file = state.copy.files[static_cast<size_t>(piece.file)];
  piece.asked_bytes = piece.read.bytes;
  ++state.in_flight;
  state.outstanding_bytes += piece.asked_bytes;
  state.read_bytes += piece.asked_bytes;
  request = piece.read.request(token);
  ++in_flight_;
  ++n_read_;
  read_bytes_[static_cast<size_t>(priority)] += request.bytes;
  return true;
}

// The piece is not a prefetch or fill any more, or about to be forgotten.
void ReadScheduler::leave(const Piece& piece) {
  if (piece.priority == Priority::kPrefetch) {
    --prefetch_out_;
    prefetch_out_bytes_ -= piece.cut_bytes;
    topping_up_ = few_are_left();
  } else if (piece.priority == Priority::kFill) {
    --fill_out_;
    fill_out_bytes_ -= piece.cut_bytes;
  }
}

// A try that brought nothing counts as a failure of its copy, as long as there is another copy.
void ReadScheduler::note_failure(Piece& piece) {
  CopyState& state = copies_[static_cast<size_t>(piece.copy)];
  if (++state.failures < kMaxCopyFailures || state.failed || n_live_copy() == 1) return;
  state.failed = true;
  newly_failed_ = piece.copy;
}

LoadEnd ReadScheduler::complete(const ReadCompletion& completion, int64_t now_us) {
  const auto token = static_cast<uint32_t>(completion.id);
  Piece& piece = pieces_[token];
  Load& load = loads_[static_cast<size_t>(piece.slot)];
  CopyState& state = copies_[static_cast<size_t>(piece.copy)];
  --in_flight_;
  --state.in_flight;
  state.outstanding_bytes -= piece.asked_bytes;
  if (piece.priority == Priority::kFill) --fills_in_flight_;

  LoadEnd end{.slot = piece.slot};
  // Each copy gets its tries.  Those that have failed for good had theirs.
  const int failures_before = piece.read.failures;
  const ReadOutcome outcome = advance(piece.read, completion.result, limits_.alignment,
                                      limits_.read_attempts * static_cast<int>(copies_.size()));
  const bool nothing = piece.read.failures > failures_before;
  if (nothing) {
    note_failure(piece);
  } else {
    state.failures = 0;
    if (n_demand_load_ == 0 && piece.priority == Priority::kFill) {
      const uint64_t most = uint64_t{fill_depth_} * limits_.read_bytes;
      fill_window_ = std::max(kFillBytes, std::min(fill_window_ + piece.asked_bytes, most));
    }
  }
  if (outcome == ReadOutcome::kAgain && !load.failed) {
    ++n_retry_;
    const bool elsewhere = n_live_copy() > (state.failed ? 0 : 1);
    piece.due_us = now_us + (nothing && !elsewhere ? backoff_us(piece.read) : 0);
    retries_.push_back(token);
    return {};
  }
  free_pieces_.push_back(token);
  leave(piece);
  --load.n_out;
  if (outcome == ReadOutcome::kFailed && !load.failed) {
    load.failed = true;
    load.failure_slice = piece.slice;
    load.failure = piece.read;
    // The rest of the load is of no use: its unsubmitted pieces and those that wait to be tried again.
    if (load.extent < load.layout->extents.size()) queue(load.priority).remove(piece.slot);
    std::erase_if(retries_, [&](uint32_t waiting) {
      if (pieces_[waiting].slot != piece.slot) return false;
      free_pieces_.push_back(waiting);
      leave(pieces_[waiting]);
      --load.n_out;
      return true;
    });
  }
  const bool ended = load.n_out == 0 && (load.failed || load.extent == load.layout->extents.size());
  load.ended = ended;
  if (ended && load.priority == Priority::kDemand) --n_demand_load_;
  if (ended && load.failed) {
    end.kind = LoadEnd::Kind::kFailed;
    end.slice = load.failure_slice;
    end.read = load.failure;
  } else if (ended) {
    end.kind = LoadEnd::Kind::kLoaded;
  } else if (!load.failed && load.gate_up_left > 0 && piece.gate_up_bytes > 0) {
    load.gate_up_left -= piece.gate_up_bytes;
    if (load.gate_up_left == 0) end.kind = LoadEnd::Kind::kGateUp;
  }
  return end;
}

}  // namespace odmoe
