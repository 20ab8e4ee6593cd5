// Who is in memory and why: a bounded arena of expert slots, filled from an ExpertSource by asynchronous
// reads, with leases that forbid eviction and a policy that decides what to give up.
//
// States of an expert:      absent -> loading -> resident -> absent
//   absent    no slot.
//   loading   owns a slot; reads of its slices are queued or in flight.  Never evicted.
//   resident  owns a slot; every slice has landed.  Evicted only when no lease is held.
// A read that fails is tried again; after the last try the expert is absent again and every lease waiting
// for it reports the error.  Where records have checksums, each of their two sections (gate and up; down) is
// compared with its own when it has landed, once; a section that is damaged is read again, which leaves the
// other alone, and counts as a read that fails.
//
// Knows nothing of ggml: the compute side sees the arena as bytes and builds its views from SlotView.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "format/expert_source.h"
#include "io/async_reader.h"
#include "odmoe/options.h"
#include "odmoe/result.h"
#include "odmoe/stats.h"
#include "store/prefetch_depth.h"
#include "store/residency_policy.h"
#include "store/slot_layout.h"

namespace odmoe {

// A complete copy of the source's files, byte for byte the same (nobody checks that here), on a drive of its
// own.  What is given for the drives decides which copy a read goes to (read_scheduler.h).
struct ExpertMirror {
  std::vector<std::filesystem::path> files;  // as the source's, in the same order
  uint32_t depth = 0;                        // most reads in flight of it; 0: as many as the reader takes
  double bytes_per_second = 0;               // 0: not known
};

struct ExpertStoreOptions {
  uint64_t arena_bytes = 0;  // all slots together, at most; at least ExpertStore::min_arena_bytes()
  // Up to which resize() may raise that; less than arena_bytes: it may not.  Only addresses are reserved for
  // it, and where the system refuses even those (a limit on address space) it is arena_bytes.
  uint64_t max_arena_bytes = 0;
  SlotKernels kernels;    // as the functions below were asked with
  int read_attempts = 3;  // tries of a read before its error is reported, 1..10
  uint32_t read_bytes =
      1 << 20;         // largest single read, 4096 to 2^30; larger slices are cut into equal pieces
  uint32_t depth = 0;  // most reads in flight of the source's own files; 0: as many as the reader takes
  double bytes_per_second = 0;        // of their drive; 0: not known
  std::vector<ExpertMirror> mirrors;  // used as well as the source's own files
  // The one that needs no observe() to know what was used; the engine asks for its own choice.
  PolicyKind policy = PolicyKind::kLayerLru;
  // Slots that are free are filled with experts that nobody has asked for, while the drive has nothing better
  // to do, until none is free: from the layer whose turn is next, each in the order of its experts.  A layer
  // gets no more than its share.  Nothing is evicted for it, and what it brought goes before equals that were
  // used.  A read that fails is nobody's error: a demand tries afresh.
  enum class Fill : uint8_t {
    kNever,
    kWhenTold,  // by set_fill(true)
    kAtOnce,
  };
  Fill fill = Fill::kNever;
  const Clock* clock = &SteadyClock::instance();
  Status validate() const;
};

// How the compute side finds the experts of one layer: expert data of slot s and projection p is at
//   arena base + first_slot_offset + s * slot_bytes + {gate,up,down}_offset, for s in [0, n_slot).
// Slots are shared with the other layers of the same record layout class.  Fixed for the store's life: n_slot
// counts the slots that there can be, of which resize() says how many are in use.
struct SlotView {
  uint64_t first_slot_offset = 0;
  uint64_t slot_bytes = 0;
  int32_t n_slot = 0;
  uint64_t gate_offset = 0, up_offset = 0, down_offset = 0;
};

// Counters since the store was made.  A demand is one lease of one expert: hit (resident), late hit
// (loading: someone else asked before) or miss.
struct ExpertStoreStats {
  uint64_t demands = 0, hits = 0, late_hits = 0, misses = 0, evictions = 0;
  uint64_t demand_read_bytes = 0;  // bytes asked of the drive for demands, alignment padding included
  uint64_t prefetch_read_bytes = 0, fill_read_bytes = 0;
  uint64_t reads = 0, read_retries = 0, failed_reads = 0;
  uint64_t prefetched = 0;       // experts loaded for a hint
  uint64_t prefetched_used = 0;  // of them, leased before they were evicted
  uint64_t prefetched_late = 0;  // of those, still loading then
  uint64_t filled = 0;           // experts loaded for ExpertStoreOptions::fill
  uint64_t filled_used = 0;      // of them, leased before they were evicted
  uint64_t stall_us = 0;         // time spent in wait functions
  uint64_t read_busy_us = 0;     // time during which at least one read was in flight
  uint64_t wanted_busy_us = 0;   // of it, at least one for a demand or a hint
  int32_t resident = 0;          // experts in memory now
  int32_t n_slot = 0;            // of all classes, in use now
  uint64_t arena_bytes = 0;      // of these slots
  uint64_t resizes = 0;          // calls of resize() that changed the number of slots
  uint64_t moves = 0;            // experts that a smaller arena copied to another slot
  int32_t working_set = 0;       // distinct experts leased since the store was made
};

// What was asked of one copy of the files.
struct ExpertCopyStats {
  uint64_t read_bytes = 0;
  bool failed = false;  // its reads failed again and again: it is read no more
};

class ExpertStore;

// A hold on one expert that forbids its eviction.  Move-only; releases on destruction.  Must not outlive
// the store.  One owner.
class ExpertLease {
 public:
  ExpertLease() = default;
  ExpertLease(ExpertLease&& other) noexcept;
  ExpertLease& operator=(ExpertLease&& other) noexcept;
  ~ExpertLease();

  explicit operator bool() const { return store_ != nullptr; }
  ExpertKey key() const { return key_; }
  int32_t slot() const { return slot_; }  // for SlotView
  void release();

 private:
  friend class ExpertStore;
  ExpertLease(ExpertStore* store, ExpertKey key, int32_t slot) : store_(store), key_(key), slot_(slot) {}
  ExpertStore* store_ = nullptr;
  ExpertKey key_;
  int32_t slot_ = -1;
};

// Thread-safe.  Owns the reader and one I/O thread that keeps it busy.  After create() only errors allocate.
class ExpertStore {
 public:
  // Most hints that prefetch() remembers.
  static constexpr size_t kMaxHints = 1024;

  // The least arena that can run the model: n_expert_used slots of each class of record layouts.
  static uint64_t min_arena_bytes(const ExpertSource& source, ReadAlignment alignment,
                                  const SlotKernels& kernels = {});
  // The arena in which every expert is resident at once; more is never used.
  static uint64_t max_arena_bytes(const ExpertSource& source, ReadAlignment alignment,
                                  const SlotKernels& kernels = {});
  // The slots that an arena of this size has; it is at least min_arena_bytes().
  static int32_t slots_within(const ExpertSource& source, ReadAlignment alignment, uint64_t arena_bytes,
                              const SlotKernels& kernels = {});

  // Adds the source's files and those of the mirrors to `reader` (which has none yet) and allocates the
  // arena. `source` must outlive the store. Errors: kUsage (options out of range), kBudget (arena below the
  // minimum), those of add_file, kBadFile (a file, or a mirror's, ends before an expert does), kIo (no memory
  // for the arena).
  static Result<std::unique_ptr<ExpertStore>> create(const ExpertSource& source,
                                                     std::unique_ptr<AsyncReader> reader,
                                                     const ExpertStoreOptions& options);
  ExpertStore(const ExpertStore&) = delete;
  ExpertStore& operator=(const ExpertStore&) = delete;
  ~ExpertStore();  // no lease may be held

  // Makes the arena larger or smaller while the store is in use and returns its new size: the largest number
  // of whole slots within `arena_bytes`, which is first brought between the minimum and max_arena_bytes.
  // When it shrinks, residents that nobody leases are evicted as the policy says, the others move together
  // (memory is copied, nothing is read), and what is behind them goes back to the system before this returns;
  // slots that are leased or loading follow as soon as they are not, so leases stay what they were.  When it
  // grows, memory is taken as experts come.  Any thread, at any time, also while others lease and wait; not
  // one that holds the last slots a layer could use while another waits for them.
  uint64_t resize(uint64_t arena_bytes);

  // The arena: page aligned, fixed for the store's life, of the size that it may grow to.  What does not
  // belong to a ready lease must not be touched.
  std::span<std::byte> arena();
  SlotView slot_view(int layer) const;

  // Tells the policy what the router chose in a layer, before it is leased: [n_expert_used, n_token] ids and
  // weights.  Of the tokens of a chunk once; nothing is read or evicted.
  void observe(int layer, std::span<const int32_t> experts, std::span<const float> weights);

  // Leases experts of one layer: those that are resident or loading first, then absent ones, in the order
  // given, as long as a slot is free or can be freed within the layer's reach.  Reads start at once; nothing
  // waits.  Appends the leases to `leases` and returns how many.  At least one is leased unless leases
  // already held keep every slot that the layer may use.  `experts` are distinct; where eviction depends on
  // it, the first counts as used last, so name the likeliest to be wanted again first.
  size_t lease(int layer, std::span<const int32_t> experts, std::vector<ExpertLease>& leases);

  // How many experts of the layer can be leased at once if no other leases are held: its share of the slots,
  // at least n_expert_used.  Changes with resize().
  int32_t max_leases(int layer) const;

  // Whether the expert of a held lease can be used now.
  bool ready(const ExpertLease& lease) const;

  // Waits until at least one of `leases` is ready and moves the ready ones to the front, keeping order among
  // them; returns how many are (0 only for no leases).  A read that failed for good is the error: kIo or
  // kBadFile, naming the file, the tensor and the expert.
  Result<size_t> wait_any(std::span<ExpertLease> leases);
  Status wait_all(std::span<ExpertLease> leases);

  // What of two lists of leases can be used: `ready` of the first, and of the second `ready_new` wholly and
  // behind those gate_up_new whose gate and up have landed (and are sound) and whose down is still to come.
  struct Landed {
    size_t ready = 0, ready_new = 0, gate_up_new = 0;
  };
  // For a compute side that starts with gate and up: `begun` are leases of which it has used gate and up
  // already, `fresh` the others.  Waits until one of `begun` is ready, or of `fresh` at least gate and up,
  // and moves what has landed to the fronts, in the order of Landed.  Errors as wait_any(); nothing landed
  // only for no leases.
  Result<Landed> wait_landed(std::span<ExpertLease> begun, std::span<ExpertLease> fresh);

  // Asks for experts that are likely to be wanted, best first; never waits, never evicts what is leased or
  // hinted, and is served only while demands leave the drive idle.  Guesses at what a token will choose are
  // for kBorrow: their slots are those that the choice itself would get.  With kShare no layer grows beyond
  // its share, however many are named.  Hints
  // replace the earlier ones that have not started; those beyond kMaxHints are dropped, and so are those of a
  // layer once it leases experts.  A hint for an expert in memory is evidence for keeping it.
  void prefetch(std::span<const ExpertKey> hints, Reach reach);

  // Stops filling free slots, or begins (again), whatever ExpertStoreOptions::fill says.
  void set_fill(bool on);

  // Which experts may fill slots, from now on: all, until this is called.
  void fill_only(const std::function<bool(ExpertKey)>& wanted);

  // How many reads for hints are in flight at a time, from now on; kFew until this is called.
  void set_prefetch_depth(PrefetchDepth depth);

  Residency residency(ExpertKey key) const;
  // All experts of a layer into the front of `experts`, which has room for them; returns how many.  Keeps the
  // others out for the copy of one layer; allocates nothing.
  int32_t view(int layer, std::span<ExpertView> experts) const;
  ExpertStoreStats stats() const;
  std::vector<ExpertCopyStats> copy_stats() const;  // the source's own files, then the mirrors; allocates

 private:
  friend class ExpertLease;
  class Impl;
  explicit ExpertStore(std::unique_ptr<Impl> impl);
  void release(const ExpertLease& lease);

  std::unique_ptr<Impl> impl_;
};

}  // namespace odmoe
