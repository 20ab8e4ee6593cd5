// Which read goes to the drive next.
//
// An expert on its way is a *load*: the extents of its layout, cut into pieces.  Loads wait in two queues,
// demand, prefetch and fill, first come first served; the loads of a queue are finished one after the other,
// since an expert is of use only as a whole.  A drive knows no priorities and shares its bandwidth among all
// it is asked for, so a prefetch piece is chosen only while no demand waits and those under way do not keep
// the drive busy, and few and small ones are in flight at a time: that is what a demand that comes meanwhile
// waits for.
//
// A fill, of a slot that would stay empty, gives way to prefetches as well.  It is there for bandwidth, so
// its pieces are as large as a demand's, and the longer no demand comes the more of them are in flight: with
// each that arrives one more, up to half of the depth.
//
// There may be several copies of the files, on drives of different speed.  Each piece goes to the copy whose
// queue would have brought it first, going by the bytes that it has still to bring and its drive's bandwidth.
// Where that copy's queue is full the piece waits, rather than go to a drive that would take longer.
//
// A read that fails is tried again: at once on another copy where there is one, else after a pause
// (backoff_us).  A copy whose reads fail again and again is read no more, unless it is the last.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "format/expert_source.h"
#include "io/pending_read.h"
#include "store/prefetch_depth.h"
#include "store/slot_layout.h"

namespace odmoe {

enum class Priority : uint8_t { kDemand, kPrefetch, kFill };

// What a completed read has brought about.
struct LoadEnd {
  enum class Kind : uint8_t {
    kNone,
    kGateUp,  // gate and up have landed where they belong; down is still under way
    kLoaded,  // the last read of the load is done
    kFailed,  // likewise, but one of them was given up
  } kind = Kind::kNone;
  int32_t slot = -1;
  int slice = 0;     // kFailed: the first slice that the failed read was for,
  PendingRead read;  // and the read
};

// One copy of the source's files.
struct ReadCopy {
  std::vector<int> files;       // the reader's number for each of the source's files
  uint32_t depth = 0;           // most reads in flight
  double bytes_per_second = 0;  // of its drive; 0: not known, and then all count as equal
};

// Loads are known by their slot, which is theirs until they end.  One owner; allocates only when made.
class ReadScheduler {
 public:
  struct Limits {
    uint32_t depth = 32;  // of the reader
    uint32_t read_bytes = 1 << 20;
    int read_attempts = 3;
    int32_t n_slot = 0;
    ReadAlignment alignment;
  };
  // How a copy fares.
  struct CopyState {
    ReadCopy copy;
    uint32_t in_flight = 0;
    uint64_t outstanding_bytes = 0;  // of the reads in flight
    uint64_t read_bytes = 0;         // asked of it so far
    int failures = 0;                // since its last read that was right
    bool failed = false;             // read no more
  };
  // A copy has failed for good after this many reads in a row that brought nothing.
  static constexpr int kMaxCopyFailures = 3;
  // Prefetches are cut into pieces of at most this.  Fewer and larger ones would cost less of the processors
  // that compute, but a demand waits for them longer.
  static constexpr uint32_t kPrefetchPieceBytes = 512 << 10;
  // Of more than one at most so many bytes are in flight: enough for most of a drive's bandwidth
  // (docs/io.md), little enough for a millisecond.
  static constexpr uint64_t kPrefetchBytes = 3 * kPrefetchPieceBytes;
  // And at most so many reads, but no more than the depth divided by this.  Few: for a drive that serves one
  // after the other.  Many: for one that has latency, but works on many small ones at once.
  struct PrefetchLimits {
    uint32_t reads = 0, depth_divisor = 0;
  };
  static constexpr PrefetchLimits kFew = {.reads = 6, .depth_divisor = 4};
  static constexpr PrefetchLimits kMany = {.reads = 16, .depth_divisor = 2};
  // While demands are under way but none waits, prefetches may fill up the reads in flight to this much, a
  // quarter of a millisecond's: a drive with less to do than that is not busy.  However small, a read costs
  // as much as one of kLeastCostBytes.
  static constexpr uint64_t kIdleBytes = 512 << 10, kLeastCostBytes = 64 << 10;
  // So many bytes of fills are in flight just after a demand, if more than one.
  static constexpr uint64_t kFillBytes = 2 << 20;

  // At least one copy.
  ReadScheduler(const ExpertSource& source, std::vector<ReadCopy> copies, const Limits& limits);

  // A load of less than all, and so without Kind::kGateUp, only of an expert whose sections_are_apart().
  void add(int32_t slot, ExpertKey key, const SlotLayout& layout, std::byte* destination, Priority priority,
           RecordSection section = RecordSection::kAll);

  // kFew until something else is said.  What is in flight stays so.
  void set_prefetch_depth(PrefetchDepth depth);

  // A prefetch or fill that has become a demand: its pieces that are still waiting move up.  Nothing if it
  // has ended.
  void promote(int32_t slot);

  // The next read to submit, if the depth allows one and there is one; its id is for complete().
  bool next(ReadRequest& request, int64_t now_us);

  LoadEnd complete(const ReadCompletion& completion, int64_t now_us);

  // When the next pause of a failed read ends, later than now; nothing when none is under way.  A read whose
  // pause is over and that next() did not return waits for a completion, not for time.
  std::optional<int64_t> next_retry_us(int64_t now_us) const;

  const std::vector<CopyState>& copies() const { return copies_; }
  // A copy that has failed for good and was not reported yet; -1: none.
  int take_failed_copy() { return std::exchange(newly_failed_, -1); }

  uint32_t in_flight() const { return in_flight_; }
  uint32_t fills_in_flight() const { return fills_in_flight_; }  // of these
  bool demand_waiting() const;
  bool wants_prefetch() const;                            // another prefetch load would be served at once
  size_t n_fill_waiting() const { return fill_.size(); }  // with pieces that were not submitted

  // Counters since the scheduler was made.
  uint64_t read_bytes(Priority priority) const { return read_bytes_[static_cast<size_t>(priority)]; }
  uint64_t n_read() const { return n_read_; }
  uint64_t n_retry() const { return n_retry_; }

 private:
  struct Load {
    ExpertKey key;
    const SlotLayout* layout = nullptr;
    std::byte* destination = nullptr;  // the slot
    Priority priority = Priority::kDemand;
    RecordSection section = RecordSection::kAll;
    bool ended = true;
    bool failed = false;
    int failure_slice = 0;  // of the first read that was given up
    PendingRead failure;
    size_t extent = 0;          // of the next piece to be cut
    uint64_t done = 0;          // bytes of that extent that have been cut
    uint32_t n_out = 0;         // pieces in flight or waiting to be tried again
    uint64_t gate_up_left = 0;  // bytes up to the ends of gate and up that have not landed; 0: no matter
  };
  struct Piece {
    PendingRead read;  // its file is the reader's number in the copy that it was last asked of
    int32_t slot = -1;
    int slice = 0;
    int file = 0;                           // of the source
    int copy = -1;                          // that it was last asked of
    uint32_t cut_bytes = 0;                 // as it was first asked for
    uint32_t asked_bytes = 0;               // by the last try
    uint64_t gate_up_bytes = 0;             // of the load's gate_up_left, that this brings
    int64_t due_us = 0;                     // when it may be tried again
    Priority priority = Priority::kDemand;  // under which it was submitted
  };
  // First-in first-out, of fixed capacity.
  class Queue {
   public:
    explicit Queue(size_t capacity) : items_(capacity) {}
    bool empty() const { return count_ == 0; }
    size_t size() const { return count_; }
    int32_t front() const { return items_[first_]; }
    void push(int32_t slot);
    void pop();
    void remove(int32_t slot);

   private:
    size_t at(size_t i) const { return (first_ + i) % items_.size(); }
    std::vector<int32_t> items_;
    size_t first_ = 0, count_ = 0;
  };

  bool drive_idles() const;
  bool room_for_prefetch() const;
  // Small prefetches go out several at a time: handing reads to the drive costs about as much for three as
  // for one.
  bool few_are_left() const { return prefetch_out_ <= prefetch_depth_ / 2; }
  bool room_for_fill() const { return fill_out_ < fill_depth_ && fill_out_bytes_ < fill_window_; }
  Queue& queue(Priority priority) {
    return priority == Priority::kDemand ? demand_ : priority == Priority::kPrefetch ? prefetch_ : fill_;
  }
  // What came of looking for a piece: there is none; its copy's queue is full; here it is.
  enum class Found : uint8_t { kNone, kFull, kPiece };
  Found take_retry(Priority priority, int64_t now_us, uint32_t& token);
  Found take_new(Priority priority, uint32_t& token);
  Piece cut(const Load& load) const;
  void advance_load(Load& load, uint32_t bytes) const;
  void skip_empty_extents(Load& load) const;
  ExtentRead next_read(const Load& load) const;
  uint64_t gate_up_bytes(const Load& load) const;
  int choose_copy(uint32_t bytes, int not_this) const;
  int n_live_copy() const;
  void note_failure(Piece& piece);
  void leave(const Piece& piece);

  const ExpertSource& source_;
  std::vector<CopyState> copies_;
  Limits limits_;
  uint32_t prefetch_depth_ = 0, fill_depth_ = 0;  // reads
  std::vector<Load> loads_;                       // by slot
  Queue demand_, prefetch_, fill_;                // loads with pieces that were never submitted
  std::vector<Piece> pieces_;
  std::vector<uint32_t> free_pieces_;
  std::vector<uint32_t> retries_;  // pieces to be submitted again, oldest first
  int newly_failed_ = -1;
  uint32_t in_flight_ = 0;
  uint32_t n_demand_load_ = 0;       // not ended yet
  uint32_t prefetch_out_ = 0;        // pieces submitted as prefetch, in flight or waiting to be tried again,
  uint64_t prefetch_out_bytes_ = 0;  // and what they are to bring
  bool topping_up_ = false;          // to the prefetch depth, since half of it was left
  uint32_t fill_out_ = 0;            // the same of fills,
  uint64_t fill_out_bytes_ = 0;
  uint64_t fill_window_ = kFillBytes;  // and how many bytes there may be
  uint32_t fills_in_flight_ = 0;
  std::array<uint64_t, 3> read_bytes_{};  // asked for, by priority
  uint64_t n_read_ = 0, n_retry_ = 0;
};

}  // namespace odmoe
