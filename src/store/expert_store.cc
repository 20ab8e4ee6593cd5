#include "store/expert_store.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "base/checksum.h"
#include "base/units.h"
#include "store/read_scheduler.h"
#include "store/residency_policy.h"
#include "store/slot_arena.h"

namespace odmoe {

Status ExpertStoreOptions::validate() const {
  if (read_attempts < 1 || read_attempts > 10) {
    return fail(ErrorKind::kUsage, "{} tries of a read are out of range; choose 1 to 10", read_attempts);
  }
  if (read_bytes < 4096 || read_bytes > (1U << 30U)) {
    return fail(ErrorKind::kUsage, "a read size of {} is out of range; choose 4 KiB to 1 GiB",
                format_bytes(read_bytes));
  }
  return {};
}

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
  void prefetch(std::span<const ExpertKey> hints);
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
  // What is known of one part of a record that is loading.
  enum class PartState : uint8_t { kComing, kSound, kDamaged };
  struct Part {
    PartState state = PartState::kComing;
    int n_damaged = 0;  // times that what arrived was not what its checksum says
  };
  struct Slot {
    ExpertKey key;
    State state = State::kFree;
    bool prefetched = false;  // for a hint, and not leased since
    bool moving = false;      // resident, being copied elsewhere: held in the policy even without leases
    Part gate_up, down;       // loading; the I/O thread's to change.  Gate and up that are sound can be used
    int32_t n_lease = 0;
    std::unique_ptr<Error> error;  // of a failed slot
  };
  struct Layer {
    int slot_class = -1;
    int32_t first_expert = 0;  // index of its expert 0 among all experts
    int32_t home = 0;          // first of the slots that its experts should have, as many as its share
    int32_t n_leased = 0;      // slots of this layer that are leased
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
  };

  Layer& layer_of(int layer) { return layers_[static_cast<size_t>(layer)]; }
  const Layer& layer_of(int layer) const { return layers_[static_cast<size_t>(layer)]; }
  Class& class_of(int layer) { return classes_[static_cast<size_t>(layer_of(layer).slot_class)]; }
  const SlotClass& plan_of(int layer) const {
    return plan_.classes()[static_cast<size_t>(layer_of(layer).slot_class)];
  }
  Expert& expert_of(ExpertKey key) {
    return experts_[static_cast<size_t>(layer_of(key.layer).first_expert) + static_cast<size_t>(key.expert)];
  }
  const Expert& expert_of(ExpertKey key) const {
    return experts_[static_cast<size_t>(layer_of(key.layer).first_expert) + static_cast<size_t>(key.expert)];
  }
  Slot& slot_at(int32_t slot) { return slots_[static_cast<size_t>(slot)]; }
  int32_t slot_of(const ExpertLease& lease) const {
    return plan_of(lease.key().layer).first_slot + lease.slot();
  }
  const Slot& slot_behind(const ExpertLease& lease) const {
    return slots_[static_cast<size_t>(slot_of(lease))];
  }

  template <typename Predicate>
  Status wait_until(const Predicate& landed, std::span<const ExpertLease> first,
                    std::span<const ExpertLease> second);

  // All of these require the lock.
  Residency residency_in(int32_t slot) const;
  template <typename Like>
  size_t gather_leases(std::span<ExpertLease> leases, const Like& like) const;
  void set_usable(size_t slot_class, int32_t n_usable);
  void evict(ExpertKey key);
  void evict_beyond_shares(const SlotClass& plan, Class& slot_class);
  int32_t find_slot(int layer, Reach reach, uint64_t spared_hint);
  void load(ExpertKey key, int32_t slot, Priority priority);
  void hold(ExpertKey key, int32_t slot);
  void start_hints();
  void finish(int32_t slot);
  void retire_if_unusable(int32_t slot);
  void give_up(int32_t slot, const Error& error);
  void read_again(int32_t slot);
  Error read_error(const LoadEnd& end) const;
  Error damage_error(int32_t slot) const;
  bool parts_are_apart(int32_t slot) const;
  void set_in_flight(bool some);
  void report_failed_copy();

  // Empties the slots of a class that are not in use any more.  Gives the lock up in between.
  void gather(size_t slot_class, std::unique_lock<std::mutex>& lock);

  // What has landed and was not looked at yet: gate and up of an expert, or all that was still to come.
  struct Arrival {
    int32_t slot = -1;
    bool all = false;
    PartState gate_up = PartState::kComing, down = PartState::kComing;  // as compared
  };
  void run_io();
  void move_into_place(int32_t slot) const;
  void compare(Arrival& arrival);
  uint64_t checksum_of(RecordPart part, int32_t slot);
  bool note_end(const LoadEnd& end);
  void settle(const Arrival& arrival);

  const ExpertSource& source_;
  const ExpertStoreOptions options_;
  const SlotPlan plan_;
  SlotArena arena_;

  std::mutex resize_mutex_;        // taken before mutex_; resize() has turns
  std::vector<int32_t> n_wanted_;  // by class; resize()'s
  mutable std::mutex mutex_;
  std::condition_variable changed_;  // something has landed, or a load has ended
  std::vector<Layer> layers_;
  std::vector<Class> classes_;
  std::vector<Expert> experts_;
  std::vector<Slot> slots_;
  ReadScheduler scheduler_;
  std::vector<ExpertKey> hints_;
  size_t next_hint_ = 0;
  uint64_t n_prefetch_ = 0;  // calls of prefetch() so far
  ExpertStoreStats stats_;
  int64_t busy_since_us_ = -1;
  bool io_sleeps_ = false;  // the I/O thread is in, or on its way into, the reader's wait()
  bool stopping_ = false;

  // Behind the arena, so destroyed before it: the reader waits for reads into it.
  std::unique_ptr<AsyncReader> reader_;
  std::vector<ReadRequest> requests_;  // these are the I/O thread's
  std::vector<ReadCompletion> completions_;
  std::vector<Arrival> arrivals_;
  Checksum checksum_;
  std::thread io_thread_;
};

ExpertStore::Impl::Impl(const ExpertSource& source, std::unique_ptr<AsyncReader> reader,
                        const ExpertStoreOptions& options, std::vector<ReadCopy> copies, SlotPlan plan,
                        SlotArena arena)
    : source_(source),
      options_(options),
      plan_(std::move(plan)),
      arena_(std::move(arena)),
      layers_(static_cast<size_t>(source.n_layer())),
      slots_(static_cast<size_t>(plan_.n_slot())),
      scheduler_(source, std::move(copies),
                 {.depth = reader->depth(),
                  .read_bytes = options.read_bytes,
                  .read_attempts = options.read_attempts,
                  .n_slot = plan_.n_slot(),
                  .alignment = reader->alignment()}),
      reader_(std::move(reader)),
      completions_(reader_->depth()) {
  for (const SlotClass& slot_class : plan_.classes()) {
    std::vector<PolicyLayer> members;
    members.reserve(slot_class.layers.size());
    for (const int layer : slot_class.layers) members.push_back({layer, source.n_expert(layer)});
    classes_.push_back(
        {.policy = make_policy(options.policy, members, slot_class.n_slot, source.n_expert_used())});
    for (const int layer : slot_class.layers) {
      layer_of(layer) = {.slot_class = static_cast<int>(classes_.size()) - 1,
                         .first_expert = static_cast<int32_t>(experts_.size())};
      experts_.resize(experts_.size() + static_cast<size_t>(source.n_expert(layer)));
    }
  }
  hints_.reserve(kMaxHints);
  requests_.reserve(reader_->depth());
  arrivals_.reserve(reader_->depth());
  n_wanted_.resize(classes_.size());
  plan_.slots_within(std::min(options_.arena_bytes, plan_.bytes()), n_wanted_);
  for (size_t i = 0; i < classes_.size(); ++i) set_usable(i, n_wanted_[i]);
}

Status ExpertStore::Impl::start() {
  try {
    io_thread_ = std::thread([this] { run_io(); });
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kIo, "cannot start the I/O thread: {}; raise the limit of processes (ulimit -u)",
                error.what());
  }
  return {};
}

ExpertStore::Impl::~Impl() {
  if (!io_thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    assert(std::ranges::all_of(slots_, [](const Slot& slot) { return slot.n_lease == 0; }));
  }
  reader_->wake();
  io_thread_.join();
}

SlotView ExpertStore::Impl::slot_view(int layer) const {
  const SlotClass& slot_class = plan_of(layer);
  const SlotLayout& layout = plan_.layout(layer);
  return {.first_slot_offset = slot_class.first_offset,
          .slot_bytes = slot_class.slot_bytes,
          .n_slot = slot_class.n_slot,
          .gate_offset = layout.gate_offset,
          .up_offset = layout.up_offset,
          .down_offset = layout.down_offset};
}

int32_t ExpertStore::Impl::max_leases(int layer) const {
  const std::scoped_lock lock(mutex_);
  const int32_t share = classes_[static_cast<size_t>(layer_of(layer).slot_class)].policy->share(layer);
  return std::min(std::max(share, source_.n_expert_used()), source_.n_expert(layer));
}

// A slot for an expert of the layer, emptied if need be; -1 when there is none within reach.  A victim that
// was named by the call `spared_hint` of prefetch() (0: none) is left alone.
int32_t ExpertStore::Impl::find_slot(int layer, Reach reach, uint64_t spared_hint) {
  Layer& own = layer_of(layer);
  Class& slot_class = class_of(layer);
  // Free slots beyond what the layer needs are left to the layers whose home they are.
  const int32_t share = slot_class.policy->share(layer);
  if (takes_free_slot(*slot_class.policy, layer, reach, source_.n_expert_used())) {
    if (const int32_t slot = arena_.take(own.slot_class, own.home, share); slot >= 0) return slot;
  }
  while (const auto victim = slot_class.policy->victim(layer, reach)) {
    Expert& expert = expert_of(*victim);
    if (spared_hint != 0 && expert.hinted == spared_hint) return -1;
    const int32_t slot = expert.slot;
    evict(*victim);
    if (arena_.usable(slot)) return slot;
    // It was in a slot that is to go; perhaps one that stays is free by now.
    arena_.give_back(slot);
    if (const int32_t other = arena_.take(own.slot_class, own.home, share); other >= 0) return other;
  }
  return reach == Reach::kBorrow ? arena_.take(own.slot_class, own.home, share) : -1;
}

// Takes the slot from a resident that nobody holds; the slot is the caller's then.
void ExpertStore::Impl::evict(ExpertKey key) {
  const int32_t slot = std::exchange(expert_of(key).slot, -1);
  assert(slot_at(slot).state == State::kResident && slot_at(slot).n_lease == 0 && !slot_at(slot).moving);
  class_of(key.layer).policy->remove(key);
  slot_at(slot).state = State::kFree;
  ++stats_.evictions;
  --stats_.resident;
}

// Shares and homes for a new number of slots; who is where stays as it is.
void ExpertStore::Impl::set_usable(size_t index, int32_t n_usable) {
  const SlotClass& plan = plan_.classes()[index];
  Class& slot_class = classes_[index];
  n_usable = std::min(n_usable, plan.n_slot);
  if (n_usable == slot_class.n_usable) return;
  const auto delta = static_cast<int64_t>(n_usable) - slot_class.n_usable;
  stats_.n_slot += static_cast<int32_t>(delta);
  stats_.arena_bytes += static_cast<uint64_t>(delta) * plan.slot_bytes;  // modulo 2^64, so right for both
  slot_class.n_usable = n_usable;
  slot_class.policy->resize(n_usable);
  arena_.set_usable(static_cast<int>(index), n_usable);
  int32_t home = plan.first_slot;
  for (const int layer : plan.layers) {
    layer_of(layer).home = home;
    home += slot_class.policy->share(layer);
  }
}

// Evicts until the class has no more members than slots, each time from the layer most above its share.
void ExpertStore::Impl::evict_beyond_shares(const SlotClass& plan, Class& slot_class) {
  ResidencyPolicy& policy = *slot_class.policy;
  int32_t n_member = 0;
  for (const int layer : plan.layers) n_member += policy.n_member(layer);
  for (; n_member > slot_class.n_usable; --n_member) {
    std::optional<ExpertKey> victim;
    int32_t most = 0;
    for (const int layer : plan.layers) {
      const int32_t excess = policy.n_member(layer) - policy.share(layer);
      if (excess <= most) continue;
      if (const auto candidate = policy.victim(layer, Reach::kShare)) {
        victim = candidate;
        most = excess;
      }
    }
    if (!victim) return;  // all that are too many are held; they go when they are released
    const int32_t slot = expert_of(*victim).slot;
    evict(*victim);
    arena_.give_back(slot);
  }
}

void ExpertStore::Impl::gather(size_t index, std::unique_lock<std::mutex>& lock) {
  const SlotClass& plan = plan_.classes()[index];
  Class& slot_class = classes_[index];
  evict_beyond_shares(plan, slot_class);
  for (int32_t from = plan.first_slot + slot_class.n_usable; from < plan.first_slot + plan.n_slot; ++from) {
    Slot& source = slot_at(from);
    if (source.state != State::kResident || source.n_lease > 0)
      continue;  // free, or goes when it is released
    const ExpertKey key = source.key;
    const int32_t to =
        arena_.take(static_cast<int>(index), layer_of(key.layer).home, slot_class.policy->share(key.layer));
    if (to < 0) {  // those that stay are held by others
      evict(key);
      arena_.give_back(from);
      continue;
    }
    // Others may lease and read the expert where it is; then it stays there after all.
    source.moving = true;
    slot_class.policy->set_held(key, true);
    ++slot_class.n_orphan;
    lock.unlock();
    std::memcpy(arena_.slot(to), arena_.slot(from), plan.slot_bytes);
    lock.lock();
    source.moving = false;
    --slot_class.n_orphan;
    if (source.n_lease > 0) {
      arena_.give_back(to);
    } else {
      slot_at(to).key = key;
      slot_at(to).state = State::kResident;
      expert_of(key).slot = to;
      source.state = State::kFree;
      arena_.give_back(from);
      slot_class.policy->set_held(key, false);
      ++stats_.moves;
    }
    changed_.notify_all();
  }
}

uint64_t ExpertStore::Impl::resize(uint64_t arena_bytes) {
  const std::scoped_lock turn(resize_mutex_);
  plan_.slots_within(std::max(arena_bytes, plan_.min_bytes()), n_wanted_);
  std::unique_lock lock(mutex_);
  const auto n_before = stats_.n_slot;
  for (size_t i = 0; i < classes_.size(); ++i) {
    const int32_t had = classes_[i].n_usable;
    set_usable(i, n_wanted_[i]);
    if (classes_[i].n_usable < had) gather(i, lock);
  }
  if (stats_.n_slot != n_before) ++stats_.resizes;
  changed_.notify_all();
  return stats_.arena_bytes;
}

void ExpertStore::Impl::load(ExpertKey key, int32_t slot, Priority priority) {
  Class& slot_class = class_of(key.layer);
  slot_at(slot).key = key;
  slot_at(slot).state = State::kLoading;
  slot_at(slot).gate_up = slot_at(slot).down = {};
  slot_at(slot).prefetched = priority == Priority::kPrefetch;
  if (priority == Priority::kPrefetch) ++stats_.prefetched;
  expert_of(key).slot = slot;
  slot_class.policy->admit(key);
  ++slot_class.n_orphan;  // until someone holds it
  scheduler_.add(slot, key, plan_.layout(key.layer), arena_.slot(slot), priority);
}

// Counts a new lease on the slot.
void ExpertStore::Impl::hold(ExpertKey key, int32_t slot) {
  Expert& expert = expert_of(key);
  if (expert.uses == 0) ++stats_.working_set;
  if (++expert.uses == 0) expert.uses = 1;
  ++stats_.demands;
  if (std::exchange(slot_at(slot).prefetched, false)) {
    ++stats_.prefetched_used;
    if (slot_at(slot).state == State::kLoading) ++stats_.prefetched_late;
  }
  if (slot_at(slot).n_lease++ > 0) return;
  ++layer_of(key.layer).n_leased;
  Class& slot_class = class_of(key.layer);
  slot_class.policy->set_held(key, true);
  if (slot_at(slot).state == State::kLoading) {
    --slot_class.n_orphan;
    scheduler_.promote(slot);
  }
}

void ExpertStore::Impl::observe(int layer, std::span<const int32_t> experts, std::span<const float> weights) {
  const std::scoped_lock lock(mutex_);
  class_of(layer).policy->observe(layer, experts, weights);
}

size_t ExpertStore::Impl::lease(ExpertStore* store, int layer, std::span<const int32_t> experts,
                                std::vector<ExpertLease>& leases) {
  const int32_t first_slot = plan_of(layer).first_slot;
  size_t n_leased = 0;
  bool wake = false;
  {
    std::unique_lock lock(mutex_);
    Class& slot_class = class_of(layer);
    // The router has spoken for this layer: what was only guessed of it is not wanted any more.
    hints_.erase(std::remove_if(hints_.begin() + static_cast<ptrdiff_t>(next_hint_), hints_.end(),
                                [&](ExpertKey hint) { return hint.layer == layer; }),
                 hints_.end());
    const auto grant = [&](ExpertKey key, int32_t slot) {
      hold(key, slot);
      leases.push_back(ExpertLease(store, key, slot - first_slot));
      ++n_leased;
    };
    // Those that have a slot first, so that none of them is evicted for another.
    for (const int32_t expert : experts) {
      const ExpertKey key{layer, expert};
      const int32_t slot = expert_of(key).slot;
      if (slot < 0) continue;
      ++(slot_at(slot).state == State::kResident ? stats_.hits : stats_.late_hits);
      grant(key, slot);
    }
    for (size_t i = 0; i < experts.size();) {
      const ExpertKey key{layer, experts[i]};
      if (expert_of(key).slot >= 0) {
        ++i;
        continue;
      }
      const Reach reach = layer_of(layer).n_leased < source_.n_expert_used() ? Reach::kBorrow : Reach::kShare;
      const int32_t slot = find_slot(layer, reach, 0);
      if (slot < 0) {
        // Reads that nobody waits for any more can keep all slots for a moment; nothing else is worth waiting
        // for here.
        if (layer_of(layer).n_leased > 0 || slot_class.n_orphan == 0) break;
        changed_.wait(lock);
        continue;
      }
      ++stats_.misses;
      load(key, slot, Priority::kDemand);
      grant(key, slot);
      ++i;
    }
    for (size_t i = experts.size(); i-- > 0;) {
      const ExpertKey key{layer, experts[i]};
      if (expert_of(key).slot >= 0) slot_class.policy->use(key);
    }
    wake = io_sleeps_ && scheduler_.demand_waiting() && scheduler_.in_flight() < reader_->depth();
    if (wake) io_sleeps_ = false;
  }
  if (wake) reader_->wake();
  return n_leased;
}

void ExpertStore::Impl::release(const ExpertLease& lease) {
  const std::scoped_lock lock(mutex_);
  const int32_t number = slot_of(lease);
  Slot& slot = slot_at(number);
  assert(slot.n_lease > 0 && slot.key == lease.key());
  if (--slot.n_lease > 0) return;
  --layer_of(slot.key.layer).n_leased;
  Class& slot_class = class_of(slot.key.layer);
  switch (slot.state) {
    case State::kResident:
      if (slot.moving) break;
      slot_class.policy->set_held(slot.key, false);
      retire_if_unusable(number);
      break;
    case State::kLoading:
      ++slot_class.n_orphan;
      break;
    case State::kFailed:
      slot.error.reset();
      slot.state = State::kFree;
      arena_.give_back(number);
      break;
    case State::kFree:
      assert(false && "a lease on a free slot");
  }
}

bool ExpertStore::Impl::ready(const ExpertLease& lease) const {
  const std::scoped_lock lock(mutex_);
  return slot_behind(lease).state == State::kResident;
}

// Moves the leases whose slots are `like` so to the front, keeping order among them; returns how many.
template <typename Like>
size_t ExpertStore::Impl::gather_leases(std::span<ExpertLease> leases, const Like& like) const {
  size_t n = 0;
  for (size_t i = 0; i < leases.size(); ++i) {
    if (!like(slot_behind(leases[i]))) continue;
    // Rotating is stable for both kinds and, unlike std::stable_partition, allocates nothing.
    if (i != n) std::rotate(leases.begin() + n, leases.begin() + i, leases.begin() + i + 1);
    ++n;
  }
  return n;
}

Result<size_t> ExpertStore::Impl::wait_any(std::span<ExpertLease> leases) {
  size_t n_ready = 0;
  ODMOE_RETURN_IF_ERROR(wait_until(
      [&] {
        n_ready = gather_leases(leases, [](const Slot& slot) { return slot.state == State::kResident; });
        return n_ready > 0 || leases.empty();
      },
      leases, {}));
  return n_ready;
}

Result<ExpertStore::Landed> ExpertStore::Impl::wait_landed(std::span<ExpertLease> begun,
                                                           std::span<ExpertLease> fresh) {
  Landed landed;
  const auto is_ready = [](const Slot& slot) { return slot.state == State::kResident; };
  ODMOE_RETURN_IF_ERROR(wait_until(
      [&] {
        landed.ready = gather_leases(begun, is_ready);
        landed.ready_new = gather_leases(fresh, is_ready);
        landed.gate_up_new = gather_leases(fresh.subspan(landed.ready_new), [](const Slot& slot) {
          return slot.state == State::kLoading && slot.gate_up.state == PartState::kSound;
        });
        return landed.ready + landed.ready_new + landed.gate_up_new > 0 || (begun.empty() && fresh.empty());
      },
      begun, fresh));
  return landed;
}

// Waits until `landed` or until one of the leases has failed, whose error it returns.
template <typename Predicate>
Status ExpertStore::Impl::wait_until(const Predicate& landed, std::span<const ExpertLease> first,
                                     std::span<const ExpertLease> second) {
  std::unique_lock lock(mutex_);
  int64_t stalled_since_us = -1;
  const Slot* failed = nullptr;
  const auto find_failed = [&](std::span<const ExpertLease> leases) {
    const auto found = std::ranges::find_if(
        leases, [&](const ExpertLease& lease) { return slot_behind(lease).state == State::kFailed; });
    if (found != leases.end()) failed = &slot_behind(*found);
  };
  while (true) {
    find_failed(second);
    find_failed(first);
    if (failed != nullptr || landed()) break;
    if (stalled_since_us < 0) stalled_since_us = options_.clock->now_us();
    changed_.wait(lock);
  }
  if (stalled_since_us >= 0) {
    stats_.stall_us += static_cast<uint64_t>(options_.clock->now_us() - stalled_since_us);
  }
  if (failed != nullptr) return std::unexpected(*failed->error);
  return {};
}

void ExpertStore::Impl::prefetch(std::span<const ExpertKey> hints) {
  hints = hints.first(std::min(hints.size(), kMaxHints));
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    hints_.assign(hints.begin(), hints.end());
    next_hint_ = 0;
    ++n_prefetch_;
    for (size_t i = hints.size(); i-- > 0;) {  // the best becomes the most recently used
      Expert& expert = expert_of(hints[i]);
      expert.hinted = n_prefetch_;
      if (expert.slot >= 0) class_of(hints[i].layer).policy->hint(hints[i]);
    }
    wake = io_sleeps_ && !hints.empty() && scheduler_.wants_prefetch();
    if (wake) io_sleeps_ = false;
  }
  if (wake) reader_->wake();
}

// Turns hints into loads while the drive has nothing better to do.
void ExpertStore::Impl::start_hints() {
  while (next_hint_ < hints_.size() && scheduler_.wants_prefetch()) {
    const ExpertKey key = hints_[next_hint_++];
    if (expert_of(key).slot >= 0) continue;
    // However much is guessed, a layer must always find its slots for a demand at once.
    const Class& slots = class_of(key.layer);
    if (slots.n_orphan >= slots.n_usable - plan_of(key.layer).min_slot) continue;
    const int32_t slot = find_slot(key.layer, Reach::kShare, n_prefetch_);
    if (slot >= 0) load(key, slot, Priority::kPrefetch);
  }
}

Residency ExpertStore::Impl::residency_in(int32_t slot) const {
  if (slot < 0) return Residency::kAbsent;
  return slots_[static_cast<size_t>(slot)].state == State::kResident ? Residency::kResident
                                                                     : Residency::kLoading;
}

Residency ExpertStore::Impl::residency(ExpertKey key) const {
  const std::scoped_lock lock(mutex_);
  return residency_in(expert_of(key).slot);
}

int32_t ExpertStore::Impl::view(int layer, std::span<ExpertView> experts) const {
  const auto first = static_cast<size_t>(layer_of(layer).first_expert);
  const auto n_expert = static_cast<size_t>(source_.n_expert(layer));
  assert(experts.size() >= n_expert);
  const std::scoped_lock lock(mutex_);
  for (size_t i = 0; i < n_expert; ++i) {
    const Expert& expert = experts_[first + i];
    experts[i] = {.residency = residency_in(expert.slot), .uses = expert.uses};
  }
  return static_cast<int32_t>(n_expert);
}

ExpertStoreStats ExpertStore::Impl::stats() const {
  const std::scoped_lock lock(mutex_);
  ExpertStoreStats stats = stats_;
  stats.demand_read_bytes = scheduler_.demand_bytes();
  stats.prefetch_read_bytes = scheduler_.prefetch_bytes();
  stats.reads = scheduler_.n_read();
  stats.read_retries = stats_.read_retries + scheduler_.n_retry();
  if (busy_since_us_ >= 0)
    stats.read_busy_us += static_cast<uint64_t>(options_.clock->now_us() - busy_since_us_);
  return stats;
}

std::vector<ExpertCopyStats> ExpertStore::Impl::copy_stats() const {
  const std::scoped_lock lock(mutex_);
  std::vector<ExpertCopyStats> stats;
  for (const auto& state : scheduler_.copies()) stats.push_back({state.read_bytes, state.failed});
  return stats;
}

// The bytes of the expert have arrived and are in place.
void ExpertStore::Impl::finish(int32_t number) {
  Slot& slot = slot_at(number);
  slot.state = State::kResident;
  ++stats_.resident;
  if (slot.n_lease > 0) return;
  --class_of(slot.key.layer).n_orphan;
  class_of(slot.key.layer).policy->set_held(slot.key, false);
  retire_if_unusable(number);
}

// A resident that nobody holds any more, in a slot that was given up meanwhile.
void ExpertStore::Impl::retire_if_unusable(int32_t number) {
  if (arena_.usable(number)) return;
  evict(slot_at(number).key);
  arena_.give_back(number);
}

// What arrived is not what was written: it is read once more, as long as there are tries.  Whoever has begun
// with gate and up goes on with them meanwhile, so sound ones must not be read over.
void ExpertStore::Impl::read_again(int32_t number) {
  Slot& slot = slot_at(number);
  for (Part* const part : {&slot.gate_up, &slot.down}) {
    if (part->state == PartState::kDamaged && ++part->n_damaged >= options_.read_attempts)
      return give_up(number, damage_error(number));
  }
  RecordPart what = RecordPart::kAll;
  if (parts_are_apart(number) && slot.gate_up.state != slot.down.state) {
    what = slot.gate_up.state == PartState::kDamaged ? RecordPart::kGateUp : RecordPart::kDown;
  }
  if (what != RecordPart::kDown) slot.gate_up.state = PartState::kComing;
  if (what != RecordPart::kGateUp) slot.down.state = PartState::kComing;
  ++stats_.read_retries;
  scheduler_.add(number, slot.key, plan_.layout(slot.key.layer), arena_.slot(number),
                 slot.n_lease > 0 ? Priority::kDemand : Priority::kPrefetch, what);
}

bool ExpertStore::Impl::parts_are_apart(int32_t number) const {
  const ExpertKey key = slots_[static_cast<size_t>(number)].key;
  return odmoe::parts_are_apart(source_, key, plan_.layout(key.layer), reader_->alignment());
}

void ExpertStore::Impl::give_up(int32_t number, const Error& error) {
  Slot& slot = slot_at(number);
  Class& slot_class = class_of(slot.key.layer);
  ++stats_.failed_reads;
  slot_class.policy->remove(slot.key);
  expert_of(slot.key).slot = -1;
  if (slot.n_lease > 0) {
    slot.state = State::kFailed;
    slot.error = std::make_unique<Error>(error);
  } else {  // a prefetch: nobody is told, and a demand tries afresh
    --slot_class.n_orphan;
    slot.state = State::kFree;
    arena_.give_back(number);
  }
}

Error ExpertStore::Impl::damage_error(int32_t number) const {
  const Slot& slot = slots_[static_cast<size_t>(number)];
  const ExpertKey key = slot.key;
  const bool down = slot.down.n_damaged >= options_.read_attempts;
  const RecordLayout::Projection& part = down ? source_.layout(key.layer).down : RecordLayout::Projection{};
  const SliceLocation at = source_.locate(key, part.slice);
  return {ErrorKind::kBadFile,
          std::format("expert {} of layer {} is damaged: its {} in {} at byte {} was read {} times and never "
                      "was what the checksum says; convert or copy the model again",
                      key.expert, key.layer, down ? "down" : "gate and up",
                      source_.files()[static_cast<size_t>(at.file)].string(), at.offset + part.offset,
                      options_.read_attempts)};
}

Error ExpertStore::Impl::read_error(const LoadEnd& end) const {
  const ExpertKey key = slots_[static_cast<size_t>(end.slot)].key;
  const std::string& slice = source_.layout(key.layer).slices[static_cast<size_t>(end.slice)].name;
  const std::string path = reader_->path(end.read.file).string();
  if (end.read.error == 0) {
    return {ErrorKind::kBadFile,
            std::format("cannot read expert {} of {} (layer {}): {} ends before byte {}; it was truncated: "
                        "fetch it again",
                        key.expert, slice, key.layer, path, end.read.offset + end.read.needed)};
  }
  return {
      ErrorKind::kIo,
      std::format(
          "cannot read expert {} of {} (layer {}): {} at byte {} failed {} times: {}; check the drive and "
          "try again",
          key.expert, slice, key.layer, path, end.read.offset, end.read.failures,
          std::generic_category().message(end.read.error))};
}

void ExpertStore::Impl::set_in_flight(bool some) {
  if (some == (busy_since_us_ >= 0)) return;
  const int64_t now_us = options_.clock->now_us();
  if (!some) stats_.read_busy_us += static_cast<uint64_t>(now_us - busy_since_us_);
  busy_since_us_ = some ? now_us : -1;
}

void ExpertStore::Impl::report_failed_copy() {
  const int copy = scheduler_.take_failed_copy();
  if (copy < 0) return;
  const int file = scheduler_.copies()[static_cast<size_t>(copy)].copy.files.front();
  spdlog::warn(
      "reads of {} failed {} times in a row; from now on only its other copies are read; check its drive",
      reader_->path(file).string(), ReadScheduler::kMaxCopyFailures);
}

// Where the phase of an expert does not suit the memory alignment, its bytes are a little too low.
void ExpertStore::Impl::move_into_place(int32_t number) const {
  const ExpertKey key = slots_[static_cast<size_t>(number)].key;  // a loading slot's is fixed
  std::byte* const base = arena_.slot(number);
  for (const SliceRun& run : plan_.layout(key.layer).runs) {
    const Landing landing = land(run, source_.locate(key, run.first_slice).offset, reader_->alignment());
    if (landing.data_offset == run.canonical_offset) continue;
    std::memmove(base + run.canonical_offset, base + landing.data_offset, run.bytes);
  }
}

// Compares what has landed, and was not compared before, with its checksums where there are some.  It is then
// in the cache that computing wants it in anyway; see docs/expert-directory.md for what it costs.
void ExpertStore::Impl::compare(Arrival& arrival) {
  const Slot& slot = slots_[static_cast<size_t>(arrival.slot)];  // a loading slot's key is fixed
  const std::optional<RecordChecksums> wanted = source_.checksums(slot.key);
  const auto verdict = [&](RecordPart part, PartState before, uint64_t checksum) {
    if (before != PartState::kComing) return before;
    return !wanted || checksum_of(part, arrival.slot) == checksum ? PartState::kSound : PartState::kDamaged;
  };
  arrival.gate_up = verdict(RecordPart::kGateUp, slot.gate_up.state, wanted ? wanted->gate_up : 0);
  if (arrival.all) arrival.down = verdict(RecordPart::kDown, slot.down.state, wanted ? wanted->down : 0);
}

uint64_t ExpertStore::Impl::checksum_of(RecordPart part, int32_t number) {
  const std::byte* const base = arena_.slot(number);
  checksum_.reset();
  for (const SliceRun& run : plan_.layout(slots_[static_cast<size_t>(number)].key.layer).runs) {
    const std::span bytes(base + run.canonical_offset, run.bytes);
    checksum_.add(part == RecordPart::kGateUp ? bytes.first(run.gate_up_bytes)
                                              : bytes.subspan(run.gate_up_bytes));
  }
  return checksum_.value();
}

// What a completed read has brought about; true when those who wait have to look.
bool ExpertStore::Impl::note_end(const LoadEnd& end) {
  const auto known = std::ranges::find(arrivals_, end.slot, &Arrival::slot);
  switch (end.kind) {
    case LoadEnd::Kind::kNone:
      return false;
    case LoadEnd::Kind::kGateUp:
      if (!source_.checksums(slot_at(end.slot).key)) {
        slot_at(end.slot).gate_up.state = PartState::kSound;
        return true;
      }
      // Down may have to be read again while gate and up are in use.
      if (parts_are_apart(end.slot)) arrivals_.push_back({.slot = end.slot});
      return false;
    case LoadEnd::Kind::kLoaded:
      if (known != arrivals_.end()) {
        known->all = true;
      } else {
        arrivals_.push_back({.slot = end.slot, .all = true});
      }
      return false;
    case LoadEnd::Kind::kFailed:
      if (known != arrivals_.end()) arrivals_.erase(known);  // the slot may be another's soon
      give_up(end.slot, read_error(end));
      return true;
  }
  return false;
}

void ExpertStore::Impl::settle(const Arrival& arrival) {
  Slot& slot = slot_at(arrival.slot);
  slot.gate_up.state = arrival.gate_up;
  if (!arrival.all) return;
  slot.down.state = arrival.down;
  const bool sound = arrival.gate_up == PartState::kSound && arrival.down == PartState::kSound;
  if (sound) {
    finish(arrival.slot);
  } else {
    read_again(arrival.slot);
  }
}

void ExpertStore::Impl::run_io() {
  std::unique_lock lock(mutex_);
  while (true) {
    requests_.clear();
    // One time for both questions, or a pause that ends between them would be waited for for ever.
    const int64_t now_us = options_.clock->now_us();
    while (!stopping_ && requests_.size() < requests_.capacity()) {
      start_hints();
      ReadRequest request;
      if (!scheduler_.next(request, now_us)) break;
      requests_.push_back(request);
    }
    set_in_flight(scheduler_.in_flight() > 0);
    if (stopping_ && scheduler_.in_flight() == 0 && arrivals_.empty()) return;
    std::optional<std::chrono::microseconds> pause;  // until a failed read may be tried again
    if (const auto retry_us = scheduler_.next_retry_us(now_us); retry_us && !stopping_) {
      pause = std::chrono::microseconds(*retry_us - now_us);
    }
    io_sleeps_ = arrivals_.empty();
    lock.unlock();

    for (const ReadRequest& request : requests_) reader_->submit(request);
    if (!arrivals_.empty()) {
      // The drive has its next reads before those that came are looked after.
      reader_->flush();
      for (Arrival& arrival : arrivals_) {
        if (arrival.all) move_into_place(arrival.slot);
        compare(arrival);
      }
      lock.lock();
      for (const Arrival& arrival : arrivals_) settle(arrival);
      arrivals_.clear();
      changed_.notify_all();
      continue;  // what was asked for meanwhile goes out before the wait
    }
    const size_t count = reader_->wait(completions_, pause);

    lock.lock();
    io_sleeps_ = false;
    bool ended = false;
    for (const ReadCompletion& completion : std::span(completions_).first(count)) {
      const LoadEnd end = scheduler_.complete(completion, options_.clock->now_us());
      ended = note_end(end) || ended;
    }
    report_failed_copy();
    if (ended) changed_.notify_all();
  }
}

ExpertStore::ExpertStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExpertStore::~ExpertStore() = default;

uint64_t ExpertStore::min_arena_bytes(const ExpertSource& source, ReadAlignment alignment) {
  return SlotPlan(source, alignment).min_bytes();
}

uint64_t ExpertStore::max_arena_bytes(const ExpertSource& source, ReadAlignment alignment) {
  return SlotPlan(source, alignment).max_bytes();
}

namespace {

// That every expert lies within its file, as far as the file's size tells.
Status check_extent(const ExpertSource& source, const AsyncReader& reader,
                    std::span<const int> reader_files) {
  for (int layer = 0; layer < source.n_layer(); ++layer) {
    if (source.n_expert(layer) == 0) continue;
    const auto& slices = source.layout(layer).slices;
    for (int expert = 0; expert < source.n_expert(layer); ++expert) {
      for (size_t slice = 0; slice < slices.size(); ++slice) {
        const SliceLocation location = source.locate({layer, expert}, static_cast<int>(slice));
        const int file = reader_files[static_cast<size_t>(location.file)];
        const uint64_t have = reader.file_bytes(file);
        if (location.offset <= have && slices[slice].bytes <= have - location.offset) continue;
        return fail(ErrorKind::kBadFile,
                    "{} ends before expert {} of {} does: it has {} of {} bytes; fetch it again",
                    reader.path(file).string(), expert, slices[slice].name, have,
                    location.offset + slices[slice].bytes);
      }
    }
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ExpertStore>> ExpertStore::create(const ExpertSource& source,
                                                         std::unique_ptr<AsyncReader> reader,
                                                         const ExpertStoreOptions& options) {
  ODMOE_RETURN_IF_ERROR(options.validate());
  std::vector<ReadCopy> copies;
  const auto add_copy = [&](const std::vector<std::filesystem::path>& files, uint32_t depth,
                            double bytes_per_second) -> Status {
    ReadCopy copy{.depth = depth > 0 ? std::min(depth, reader->depth()) : reader->depth(),
                  .bytes_per_second = bytes_per_second};
    for (const std::filesystem::path& path : files) {
      ODMOE_ASSIGN_OR_RETURN(const int file, reader->add_file(path));
      copy.files.push_back(file);
    }
    ODMOE_RETURN_IF_ERROR(check_extent(source, *reader, copy.files));
    copies.push_back(std::move(copy));
    return {};
  };
  ODMOE_RETURN_IF_ERROR(add_copy(source.files(), options.depth, options.bytes_per_second));
  for (const ExpertMirror& mirror : options.mirrors) {
    ODMOE_RETURN_IF_ERROR(add_copy(mirror.files, mirror.depth, mirror.bytes_per_second));
  }
  SlotPlan plan(source, reader->alignment());
  if (options.arena_bytes < plan.min_bytes()) {
    return fail(ErrorKind::kBudget,
                "an expert arena of {} is smaller than the least that this model can run with, {}; "
                "raise the memory budget",
                format_bytes(options.arena_bytes), format_bytes(plan.min_bytes()));
  }
  plan.divide(std::max(options.arena_bytes, options.max_arena_bytes));
  Result<SlotArena> reserved = SlotArena::create(plan);
  if (!reserved.has_value() && options.max_arena_bytes > options.arena_bytes) {
    plan.divide(options.arena_bytes);
    reserved = SlotArena::create(plan);
  }
  ODMOE_ASSIGN_OR_RETURN(SlotArena arena, std::move(reserved));
  auto impl = std::make_unique<Impl>(source, std::move(reader), options, std::move(copies), std::move(plan),
                                     std::move(arena));
  ODMOE_RETURN_IF_ERROR(impl->start());
  return std::unique_ptr<ExpertStore>(new ExpertStore(std::move(impl)));
}

uint64_t ExpertStore::resize(uint64_t arena_bytes) { return impl_->resize(arena_bytes); }
std::span<std::byte> ExpertStore::arena() { return impl_->arena(); }
SlotView ExpertStore::slot_view(int layer) const { return impl_->slot_view(layer); }
size_t ExpertStore::lease(int layer, std::span<const int32_t> experts, std::vector<ExpertLease>& leases) {
  return impl_->lease(this, layer, experts, leases);
}
void ExpertStore::observe(int layer, std::span<const int32_t> experts, std::span<const float> weights) {
  impl_->observe(layer, experts, weights);
}
int32_t ExpertStore::max_leases(int layer) const { return impl_->max_leases(layer); }
bool ExpertStore::ready(const ExpertLease& lease) const { return impl_->ready(lease); }
Result<size_t> ExpertStore::wait_any(std::span<ExpertLease> leases) { return impl_->wait_any(leases); }
Result<ExpertStore::Landed> ExpertStore::wait_landed(std::span<ExpertLease> begun,
                                                     std::span<ExpertLease> fresh) {
  return impl_->wait_landed(begun, fresh);
}

Status ExpertStore::wait_all(std::span<ExpertLease> leases) {
  while (!leases.empty()) {
    ODMOE_ASSIGN_OR_RETURN(const size_t n_ready, impl_->wait_any(leases));
    leases = leases.subspan(n_ready);
  }
  return {};
}

void ExpertStore::prefetch(std::span<const ExpertKey> hints) { impl_->prefetch(hints); }
Residency ExpertStore::residency(ExpertKey key) const { return impl_->residency(key); }
int32_t ExpertStore::view(int layer, std::span<ExpertView> experts) const {
  return impl_->view(layer, experts);
}
ExpertStoreStats ExpertStore::stats() const { return impl_->stats(); }
std::vector<ExpertCopyStats> ExpertStore::copy_stats() const { return impl_->copy_stats(); }
void ExpertStore::release(const ExpertLease& lease) { impl_->release(lease); }

ExpertLease::ExpertLease(ExpertLease&& other) noexcept
    : store_(std::exchange(other.store_, nullptr)), key_(other.key_), slot_(other.slot_) {}

ExpertLease& ExpertLease::operator=(ExpertLease&& other) noexcept {
  if (this == &other) return *this;
  release();
  store_ = std::exchange(other.store_, nullptr);
  key_ = other.key_;
  slot_ = other.slot_;
  return *this;
}

ExpertLease::~ExpertLease() { release(); }

void ExpertLease::release() {
  if (store_ != nullptr) std::exchange(store_, nullptr)->release(*this);
}

}  // namespace odmoe
