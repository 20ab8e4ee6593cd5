// The inside of an expert store, for its own files alone: expert_store.cc (leases, waiting, hints),
// expert_store_slots.cc (who has which slot, and how many there are) and expert_store_io.cc (the I/O thread
// and what becomes of what arrives).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/checksum.h"
#include "base/mutex.h"
#include "store/expert_store.h"
#include "store/read_scheduler.h"
#include "store/residency_policy.h"
#include "store/slot_arena.h"

namespace odmoe {

// One mutex guards everything but the reader, which belongs to the I/O thread (wake() apart), and the bytes
// of the slots: those of a loading slot belong to the I/O thread and the drive, those of a resident slot are
// read-only for whoever holds a lease.  The mutex hands them over.  It is never held while waiting for I/O.
class ExpertStore::Impl {
 public:
  Impl(const ExpertSource& source, std::unique_ptr<AsyncReader> reader, const ExpertStoreOptions& options,
       std::vector<ReadCopy> copies, SlotPlan plan, SlotArena arena);
  ~Impl();

  uint64_t resize(uint64_t arena_bytes);

  Status start();

  std::span<std::byte> arena() const { return arena_.bytes(); }
  SlotView slot_view(int layer) const;
  void observe(int layer, std::span<const int32_t> experts, std::span<const float> weights);
  size_t lease(ExpertStore* store, int layer, std::span<const int32_t> experts,
               std::vector<ExpertLease>& leases);
  int32_t max_leases(int layer) const;
  bool ready(const ExpertLease& lease) const;
  Result<size_t> wait_any(std::span<ExpertLease> leases);
  Result<Landed> wait_landed(std::span<ExpertLease> begun, std::span<ExpertLease> fresh);
  void prefetch(std::span<const ExpertKey> hints, Reach reach);
  void set_fill(bool on);
  void fill_only(const std::function<bool(ExpertKey)>& wanted);
  void set_prefetch_depth(PrefetchDepth depth);
  Residency residency(ExpertKey key) const;
  int32_t view(int layer, std::span<ExpertView> experts) const;
  ExpertStoreStats stats() const;
  std::vector<ExpertCopyStats> copy_stats() const;
  void release(const ExpertLease& lease);

 private:
  enum class State : uint8_t {
    kFree,
    kLoading,   // member of the policy and held there
    kResident,  // member of the policy, held there while leases > 0
    kFailed,    // given up, no member: kept only until its leases are released
  };
  // What is known of one section of a record that is loading.
  enum class SectionState : uint8_t { kComing, kSound, kDamaged };
  struct Section {
    SectionState state = SectionState::kComing;
    int n_damaged = 0;  // times that what arrived was not what its checksum says
  };
  struct Slot {
    ExpertKey key;
    State state = State::kFree;
    bool prefetched = false;  // for a hint, and not leased since
    bool filled = false;      // because it was free, and not leased since
    bool unpaged = false;     // loading for a fill, and not with the scheduler before its pages are made
    bool moving = false;      // resident, being copied elsewhere: held in the policy even without leases
    Section gate_up, down;    // loading; the I/O thread's to change.  Gate and up that are sound can be used
    int32_t n_lease = 0;
    std::unique_ptr<Error> error;  // of a failed slot
  };
  struct Layer {
    int slot_class = -1;
    int32_t first_expert = 0;  // index of its expert 0 among all experts
    int32_t home = 0;          // first of the slots that its experts should have, as many as its share
    int32_t n_leased = 0;      // slots of this layer that are leased
    int32_t next_fill = 0;     // the expert that may be next to fill a slot
  };
  struct Class {
    std::unique_ptr<ResidencyPolicy> policy;
    int32_t n_usable = 0;  // slots in use, the first of the class
    int32_t n_orphan = 0;  // slots that are loading or moving though nobody holds a lease
  };
  struct Expert {
    int32_t slot = -1;
    uint32_t uses = 0;    // leases so far; after the most that it can count comes 1
    uint64_t hinted = 0;  // number of the last call of prefetch() that named it
    bool never_fills = false;
  };

  Layer& layer_of(int layer) { return layers_[static_cast<size_t>(layer)]; }
  const Layer& layer_of(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  Class& class_of(int layer) ODMOE_REQUIRES(mutex_) {
    return classes_[static_cast<size_t>(layer_of(layer).slot_class)];
  }
  const SlotClass& plan_of(int layer) const {
    return plan_.classes()[static_cast<size_t>(layer_of(layer).slot_class)];
  }
  Expert& expert_of(ExpertKey key) ODMOE_REQUIRES(mutex_) {
    return experts_[static_cast<size_t>(layer_of(key.layer).first_expert) + static_cast<size_t>(key.expert)];
  }
  const Expert& expert_of(ExpertKey key) const ODMOE_REQUIRES(mutex_) {
    return experts_[static_cast<size_t>(layer_of(key.layer).first_expert) + static_cast<size_t>(key.expert)];
  }
  Slot& slot_at(int32_t slot) ODMOE_REQUIRES(mutex_) { return slots_[static_cast<size_t>(slot)]; }
  int32_t slot_of(const ExpertLease& lease) const {
    return plan_of(lease.key().layer).first_slot + lease.slot();
  }
  const Slot& slot_behind(const ExpertLease& lease) const ODMOE_REQUIRES(mutex_) {
    return slots_[static_cast<size_t>(slot_of(lease))];
  }

  template <typename Predicate>
  Status wait_until(const Predicate& landed, std::span<const ExpertLease> first,
                    std::span<const ExpertLease> second);

  Residency residency_in(int32_t slot) const ODMOE_REQUIRES(mutex_);
  template <typename Like>
  size_t gather_leases(std::span<ExpertLease> leases, const Like& like) const ODMOE_REQUIRES(mutex_);
  void set_usable(size_t slot_class, int32_t n_usable) ODMOE_REQUIRES(mutex_);
  void evict(ExpertKey key) ODMOE_REQUIRES(mutex_);
  void evict_beyond_shares(const SlotClass& plan, Class& slot_class) ODMOE_REQUIRES(mutex_);
  int32_t find_slot(int layer, Reach reach, uint64_t spared_hint) ODMOE_REQUIRES(mutex_);
  void load(ExpertKey key, int32_t slot, Priority priority) ODMOE_REQUIRES(mutex_);
  void add_to_scheduler(int32_t slot, Priority priority) ODMOE_REQUIRES(mutex_);
  void hold(ExpertKey key, int32_t slot) ODMOE_REQUIRES(mutex_);
  void start_hints() ODMOE_REQUIRES(mutex_);
  void start_fill() ODMOE_REQUIRES(mutex_);
  bool fill_one(int layer) ODMOE_REQUIRES(mutex_);
  void fill_from_the_first() ODMOE_REQUIRES(mutex_);
  void run_pages();
  void make_pages(int32_t slot) ODMOE_REQUIRES(mutex_);
  void finish(int32_t slot) ODMOE_REQUIRES(mutex_);
  void retire_if_unusable(int32_t slot) ODMOE_REQUIRES(mutex_);
  void give_up(int32_t slot, const Error& error) ODMOE_REQUIRES(mutex_);
  void read_again(int32_t slot) ODMOE_REQUIRES(mutex_);
  Error read_error(const LoadEnd& end) const ODMOE_REQUIRES(mutex_);
  Error damage_error(int32_t slot) const ODMOE_REQUIRES(mutex_);
  bool sections_are_apart(int32_t slot) const ODMOE_REQUIRES(mutex_);
  void note_in_flight() ODMOE_REQUIRES(mutex_);
  void report_failed_copy() ODMOE_REQUIRES(mutex_);

  // Empties the slots of a class that are not in use any more.  Gives the lock up in between.
  void gather(size_t slot_class) ODMOE_REQUIRES(mutex_);

  // What has landed and was not looked at yet: gate and up of an expert, or all that was still to come.
  struct Arrival {
    int32_t slot = -1;
    bool all = false;
    SectionState gate_up = SectionState::kComing, down = SectionState::kComing;  // as compared
  };
  void run_io();
  // Slots that are loading are the I/O thread's, which the lock has handed over: these look at them without.
  void move_into_place(int32_t slot) const ODMOE_NO_THREAD_SAFETY_ANALYSIS;
  void compare(Arrival& arrival) ODMOE_NO_THREAD_SAFETY_ANALYSIS;
  uint64_t checksum_of(RecordSection section, int32_t slot) ODMOE_NO_THREAD_SAFETY_ANALYSIS;
  bool note_end(const LoadEnd& end) ODMOE_REQUIRES(mutex_);
  void settle(const Arrival& arrival) ODMOE_REQUIRES(mutex_);

  const ExpertSource& source_;
  const ExpertStoreOptions options_;
  const SlotPlan plan_;
  SlotArena arena_;

  Mutex resize_mutex_;                                             // taken before mutex_; resize() has turns
  std::vector<int32_t> n_wanted_ ODMOE_GUARDED_BY(resize_mutex_);  // by class
  mutable Mutex mutex_;
  Condition changed_;          // something has landed, or a load has ended
  std::vector<Layer> layers_;  // but for n_leased and next_fill, which mutex_ guards, fixed
  std::vector<Class> classes_ ODMOE_GUARDED_BY(mutex_);
  std::vector<Expert> experts_ ODMOE_GUARDED_BY(mutex_);
  std::vector<Slot> slots_ ODMOE_GUARDED_BY(mutex_);
  ReadScheduler scheduler_ ODMOE_GUARDED_BY(mutex_);
  std::vector<ExpertKey> hints_ ODMOE_GUARDED_BY(mutex_);
  size_t next_hint_ ODMOE_GUARDED_BY(mutex_) = 0;
  uint64_t n_prefetch_ ODMOE_GUARDED_BY(mutex_) = 0;  // calls of prefetch() so far
  Reach hint_reach_ ODMOE_GUARDED_BY(mutex_) = Reach::kShare;
  // Whether free slots are to be filled, whether one may still be, and from which layer on experts are looked
  // for.
  bool fill_on_ ODMOE_GUARDED_BY(mutex_) = false;
  bool fills_ ODMOE_GUARDED_BY(mutex_) = false;
  int fill_layer_ ODMOE_GUARDED_BY(mutex_) = 0;
  // Loading slots that were never read into before: of what is wanted, latest last, and of fills, in turn.
  std::vector<int32_t> fresh_ ODMOE_GUARDED_BY(mutex_), fresh_fills_ ODMOE_GUARDED_BY(mutex_);
  Condition fresh_changed_;
  ExpertStoreStats stats_ ODMOE_GUARDED_BY(mutex_);
  int64_t busy_since_us_ ODMOE_GUARDED_BY(mutex_) = -1, wanted_since_us_ ODMOE_GUARDED_BY(mutex_) = -1;
  bool io_sleeps_ ODMOE_GUARDED_BY(mutex_) =
      false;  // the I/O thread is in, or on its way into, the reader's wait()
  bool stopping_ ODMOE_GUARDED_BY(mutex_) = false;

  // Behind the arena, so destroyed before it: the reader waits for reads into it.
  std::unique_ptr<AsyncReader> reader_;
  std::vector<ReadRequest> requests_;  // these are the I/O thread's
  std::vector<ReadCompletion> completions_;
  std::vector<Arrival> arrivals_;
  Checksum checksum_;
  std::thread io_thread_;
  std::thread page_thread_;  // where slots are filled, makes the pages of those that are to be read into
};

}  // namespace odmoe
