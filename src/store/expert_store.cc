#include "store/expert_store.h"

#include <algorithm>
#include <cassert>
#include <system_error>
#include <utility>

#include "base/mutex.h"
#include "base/thread_priority.h"
#include "base/units.h"
#include "store/expert_store_impl.h"

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

namespace {

// Fills that wait for the drive, so that there is time to make their pages.
constexpr size_t kFillsAhead = 8;

}  // namespace

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
  fills_ = fill_on_ = options_.fill == ExpertStoreOptions::Fill::kAtOnce;
  fresh_.reserve(slots_.size());
  fresh_fills_.reserve(kFillsAhead);
}

Status ExpertStore::Impl::start() {
  try {
    if (options_.fill != ExpertStoreOptions::Fill::kNever)
      page_thread_ = std::thread([this] { run_pages(); });
    io_thread_ = std::thread([this] { run_io(); });
  } catch (const std::system_error& error) {
    return fail(ErrorKind::kIo,
                "cannot start the threads that read: {}; raise the limit of processes (ulimit -u)",
                error.what());
  }
  return {};
}

ExpertStore::Impl::~Impl() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    assert(std::ranges::all_of(slots_, [](const Slot& slot) { return slot.n_lease == 0; }));
  }
  fresh_changed_.notify_all();
  reader_->wake();
  if (page_thread_.joinable()) page_thread_.join();
  if (io_thread_.joinable()) io_thread_.join();
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
  const MutexLock lock(mutex_);
  const int32_t share = classes_[static_cast<size_t>(layer_of(layer).slot_class)].policy->share(layer);
  return std::min(std::max(share, source_.n_expert_used()), source_.n_expert(layer));
}

void ExpertStore::Impl::load(ExpertKey key, int32_t slot, Priority priority) {
  Class& slot_class = class_of(key.layer);
  slot_at(slot).key = key;
  slot_at(slot).state = State::kLoading;
  slot_at(slot).gate_up = slot_at(slot).down = {};
  slot_at(slot).prefetched = priority == Priority::kPrefetch;
  slot_at(slot).filled = priority == Priority::kFill;
  if (priority == Priority::kPrefetch) ++stats_.prefetched;
  if (priority == Priority::kFill) ++stats_.filled;
  expert_of(key).slot = slot;
  if (priority == Priority::kFill) {
    slot_class.policy->admit_unasked(key);
  } else {
    slot_class.policy->admit(key);
  }
  ++slot_class.n_orphan;  // until someone holds it
  const bool is_new = options_.fill != ExpertStoreOptions::Fill::kNever && arena_.touch(slot);
  slot_at(slot).unpaged = is_new && priority == Priority::kFill;
  if (is_new) {
    (priority == Priority::kFill ? fresh_fills_ : fresh_).push_back(slot);
    fresh_changed_.notify_all();
  }
  if (!slot_at(slot).unpaged) add_to_scheduler(slot, priority);
}

void ExpertStore::Impl::add_to_scheduler(int32_t slot, Priority priority) {
  const ExpertKey key = slot_at(slot).key;
  slot_at(slot).unpaged = false;
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
  if (std::exchange(slot_at(slot).filled, false)) ++stats_.filled_used;
  if (slot_at(slot).n_lease++ > 0) return;
  ++layer_of(key.layer).n_leased;
  Class& slot_class = class_of(key.layer);
  slot_class.policy->set_held(key, true);
  if (slot_at(slot).state == State::kLoading) {
    --slot_class.n_orphan;
    if (slot_at(slot).unpaged) {
      add_to_scheduler(slot, Priority::kDemand);
    } else {
      scheduler_.promote(slot);
    }
  }
}

void ExpertStore::Impl::observe(int layer, std::span<const int32_t> experts, std::span<const float> weights) {
  const MutexLock lock(mutex_);
  class_of(layer).policy->observe(layer, experts, weights);
}

size_t ExpertStore::Impl::lease(ExpertStore* store, int layer, std::span<const int32_t> experts,
                                std::vector<ExpertLease>& leases) {
  const int32_t first_slot = plan_of(layer).first_slot;
  size_t n_leased = 0;
  bool wake = false;
  {
    MutexLock lock(mutex_);
    Class& slot_class = class_of(layer);
    fill_layer_ = layer + 1;
    // The router has spoken for this layer: what was only guessed of it is not wanted any more.
    hints_.erase(std::remove_if(hints_.begin() + static_cast<ptrdiff_t>(next_hint_), hints_.end(),
                                [&](ExpertKey hint) { return hint.layer == layer; }),
                 hints_.end());
    const auto grant = [&](ExpertKey key, int32_t slot) ODMOE_REQUIRES(mutex_) {
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
        changed_.wait(mutex_);
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
  const MutexLock lock(mutex_);
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
  const MutexLock lock(mutex_);
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
      [&]() ODMOE_REQUIRES(mutex_) {
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
      [&]() ODMOE_REQUIRES(mutex_) {
        landed.ready = gather_leases(begun, is_ready);
        landed.ready_new = gather_leases(fresh, is_ready);
        landed.gate_up_new = gather_leases(fresh.subspan(landed.ready_new), [](const Slot& slot) {
          return slot.state == State::kLoading && slot.gate_up.state == SectionState::kSound;
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
  MutexLock lock(mutex_);
  int64_t stalled_since_us = -1;
  const Slot* failed = nullptr;
  const auto find_failed = [&](std::span<const ExpertLease> leases) ODMOE_REQUIRES(mutex_) {
    for (const ExpertLease& lease : leases) {
      if (slot_behind(lease).state != State::kFailed) continue;
      failed = &slot_behind(lease);
      return;
    }
  };
  while (true) {
    find_failed(second);
    find_failed(first);
    if (failed != nullptr || landed()) break;
    if (stalled_since_us < 0) stalled_since_us = options_.clock->now_us();
    changed_.wait(mutex_);
  }
  if (stalled_since_us >= 0) {
    stats_.stall_us += static_cast<uint64_t>(options_.clock->now_us() - stalled_since_us);
  }
  if (failed != nullptr) return std::unexpected(*failed->error);
  return {};
}

void ExpertStore::Impl::prefetch(std::span<const ExpertKey> hints, Reach reach) {
  hints = hints.first(std::min(hints.size(), kMaxHints));
  bool wake = false;
  {
    const MutexLock lock(mutex_);
    hints_.assign(hints.begin(), hints.end());
    next_hint_ = 0;
    hint_reach_ = reach;
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

void ExpertStore::Impl::set_prefetch_depth(PrefetchDepth depth) {
  const MutexLock lock(mutex_);
  scheduler_.set_prefetch_depth(depth);
}

// Turns hints into loads while the drive has nothing better to do.
void ExpertStore::Impl::start_hints() {
  while (next_hint_ < hints_.size() && scheduler_.wants_prefetch()) {
    const ExpertKey key = hints_[next_hint_++];
    if (expert_of(key).slot >= 0) continue;
    // However much is guessed, a layer must always find its slots for a demand at once.
    const Class& slots = class_of(key.layer);
    if (slots.n_orphan >= slots.n_usable - plan_of(key.layer).min_slot) continue;
    const int32_t slot = find_slot(key.layer, hint_reach_, n_prefetch_);
    if (slot >= 0) load(key, slot, Priority::kPrefetch);
  }
}

// Turns free slots into loads while the drive has nothing better to do and no hint waits.
void ExpertStore::Impl::start_fill() {
  // While they wait the system makes their pages, so there are some beyond those that the drive wants now.
  while (fills_ && next_hint_ == hints_.size() &&
         scheduler_.n_fill_waiting() + fresh_fills_.size() < kFillsAhead) {
    bool found = false, later = false;
    for (int i = 0; i < source_.n_layer() && !found; ++i) {
      const int layer = (fill_layer_ + i) % source_.n_layer();
      if (source_.n_expert(layer) == 0) continue;
      // However much is filled, a layer must always find its slots for a demand at once.
      const Class& slots = class_of(layer);
      if (slots.n_orphan >= slots.n_usable - plan_of(layer).min_slot) {
        later = true;
      } else {
        found = fill_one(layer);
      }
    }
    if (found) continue;
    fills_ = later;
    return;
  }
}

// Gives the layer another expert, if it has an absent one that it may have a free slot for.
bool ExpertStore::Impl::fill_one(int layer) {
  Layer& own = layer_of(layer);
  const ResidencyPolicy& policy = *class_of(layer).policy;
  if (!takes_free_slot(policy, layer, Reach::kShare, source_.n_expert_used())) return false;
  const auto may_fill = [&](const Expert& expert) { return expert.slot < 0 && !expert.never_fills; };
  while (own.next_fill < source_.n_expert(layer) && !may_fill(expert_of({layer, own.next_fill})))
    ++own.next_fill;
  if (own.next_fill == source_.n_expert(layer)) return false;
  const int32_t slot = arena_.take(own.slot_class, own.home, policy.share(layer));
  if (slot < 0) return false;
  load({layer, own.next_fill++}, slot, Priority::kFill);
  return true;
}

// The first touch of memory can take longer than reading what goes there: the system has to find and clear
// it. Where that is left to the moment in which a read is handed over, it holds up all reads.  The I/O thread
// goes through what is wanted from the first, this one from the last: where their turns meet, all is there.
// Fills are not read before their pages are made, so that nobody ever waits for those.
void ExpertStore::Impl::run_pages() {
  // Where all processors compute there is time for it only while they wait for reads, which is when it helps.
  give_way_to_other_threads();
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (!fresh_.empty()) {
      const int32_t slot = fresh_.back();
      fresh_.pop_back();
      make_pages(slot);
    } else if (!fresh_fills_.empty()) {
      const int32_t slot = fresh_fills_.front();
      fresh_fills_.erase(fresh_fills_.begin());
      make_pages(slot);
      if (!slot_at(slot).unpaged) continue;  // it is wanted by now
      add_to_scheduler(slot, Priority::kFill);
      if (std::exchange(io_sleeps_, false)) reader_->wake();
    } else {
      fresh_changed_.wait(mutex_);
    }
  }
}

// Gives the lock up in between.
void ExpertStore::Impl::make_pages(int32_t slot) {
  if (slot_at(slot).state != State::kLoading) return;  // it has been read into
  mutex_.unlock();
  arena_.populate(slot);
  mutex_.lock();
  arena_.discard_unused(slot);
}

// There are more free slots than before.
void ExpertStore::Impl::fill_from_the_first() {
  for (Layer& layer : layers_) layer.next_fill = 0;
  fills_ = fill_on_;
}

void ExpertStore::Impl::set_fill(bool on) {
  bool wake = false;
  {
    const MutexLock lock(mutex_);
    fill_on_ = on;
    fill_from_the_first();
    wake = fills_ && std::exchange(io_sleeps_, false);
  }
  if (wake) reader_->wake();
}

void ExpertStore::Impl::fill_only(const std::function<bool(ExpertKey)>& wanted) {
  const MutexLock lock(mutex_);
  for (int layer = 0; layer < source_.n_layer(); ++layer) {
    for (int32_t expert = 0; expert < source_.n_expert(layer); ++expert) {
      expert_of({layer, expert}).never_fills = !wanted({layer, expert});
    }
  }
  fill_from_the_first();
}

Residency ExpertStore::Impl::residency_in(int32_t slot) const {
  if (slot < 0) return Residency::kAbsent;
  return slots_[static_cast<size_t>(slot)].state == State::kResident ? Residency::kResident
                                                                     : Residency::kLoading;
}

Residency ExpertStore::Impl::residency(ExpertKey key) const {
  const MutexLock lock(mutex_);
  return residency_in(expert_of(key).slot);
}

int32_t ExpertStore::Impl::view(int layer, std::span<ExpertView> experts) const {
  const auto first = static_cast<size_t>(layer_of(layer).first_expert);
  const auto n_expert = static_cast<size_t>(source_.n_expert(layer));
  assert(experts.size() >= n_expert);
  const MutexLock lock(mutex_);
  for (size_t i = 0; i < n_expert; ++i) {
    const Expert& expert = experts_[first + i];
    experts[i] = {.residency = residency_in(expert.slot), .uses = expert.uses};
  }
  return static_cast<int32_t>(n_expert);
}

ExpertStoreStats ExpertStore::Impl::stats() const {
  const MutexLock lock(mutex_);
  ExpertStoreStats stats = stats_;
  stats.demand_read_bytes = scheduler_.read_bytes(Priority::kDemand);
  stats.prefetch_read_bytes = scheduler_.read_bytes(Priority::kPrefetch);
  stats.fill_read_bytes = scheduler_.read_bytes(Priority::kFill);
  stats.reads = scheduler_.n_read();
  stats.read_retries = stats_.read_retries + scheduler_.n_retry();
  const int64_t now_us = options_.clock->now_us();
  if (busy_since_us_ >= 0) stats.read_busy_us += static_cast<uint64_t>(now_us - busy_since_us_);
  if (wanted_since_us_ >= 0) stats.wanted_busy_us += static_cast<uint64_t>(now_us - wanted_since_us_);
  return stats;
}

std::vector<ExpertCopyStats> ExpertStore::Impl::copy_stats() const {
  const MutexLock lock(mutex_);
  std::vector<ExpertCopyStats> stats;
  for (const auto& state : scheduler_.copies()) stats.push_back({state.read_bytes, state.failed});
  return stats;
}

ExpertStore::ExpertStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ExpertStore::~ExpertStore() = default;

uint64_t ExpertStore::min_arena_bytes(const ExpertSource& source, ReadAlignment alignment,
                                      const SlotKernels& kernels) {
  return SlotPlan(source, alignment, kernels).min_bytes();
}

uint64_t ExpertStore::max_arena_bytes(const ExpertSource& source, ReadAlignment alignment,
                                      const SlotKernels& kernels) {
  return SlotPlan(source, alignment, kernels).max_bytes();
}

int32_t ExpertStore::slots_within(const ExpertSource& source, ReadAlignment alignment, uint64_t arena_bytes,
                                  const SlotKernels& kernels) {
  SlotPlan plan(source, alignment, kernels);
  plan.divide(arena_bytes);
  return plan.n_slot();
}

namespace {

// That every expert lies within its file, as far as the file's size tells.
Status check_extent(const ExpertSource& source, const AsyncReader& reader,
                    std::span<const int> reader_files) {
  for (int layer = 0; layer < source.n_layer(); ++layer) {
    if (source.n_expert(layer) == 0) continue;
    const auto& slices = source.layout(layer).slices;
    for (int expert = 0; expert < source.n_expert(layer); ++expert) {
      if (!source.holds({layer, expert})) continue;
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
  SlotPlan plan(source, reader->alignment(), options.kernels);
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

void ExpertStore::prefetch(std::span<const ExpertKey> hints, Reach reach) { impl_->prefetch(hints, reach); }
void ExpertStore::set_fill(bool on) { impl_->set_fill(on); }
void ExpertStore::fill_only(const std::function<bool(ExpertKey)>& wanted) { impl_->fill_only(wanted); }
void ExpertStore::set_prefetch_depth(PrefetchDepth depth) { impl_->set_prefetch_depth(depth); }
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
