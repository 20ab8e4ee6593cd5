#include <spdlog/spdlog.h>

#include <algorithm>
#include <cassert>
#include <chrono>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "base/mutex.h"
#include "odmoe/format.h"
#include "store/expert_store_impl.h"

namespace odmoe {

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
  for (Section* const section : {&slot.gate_up, &slot.down}) {
    if (section->state == SectionState::kDamaged && ++section->n_damaged >= options_.read_attempts)
      return give_up(number, damage_error(number));
  }
  RecordSection what = RecordSection::kAll;
  if (sections_are_apart(number) && slot.gate_up.state != slot.down.state) {
    what = slot.gate_up.state == SectionState::kDamaged ? RecordSection::kGateUp : RecordSection::kDown;
  }
  if (what != RecordSection::kDown) slot.gate_up.state = SectionState::kComing;
  if (what != RecordSection::kGateUp) slot.down.state = SectionState::kComing;
  ++stats_.read_retries;
  scheduler_.add(number, slot.key, plan_.layout(slot.key.layer), arena_.slot(number),
                 slot.n_lease > 0 ? Priority::kDemand
                 : slot.filled    ? Priority::kFill
                                  : Priority::kPrefetch,
                 what);
}

bool ExpertStore::Impl::sections_are_apart(int32_t number) const {
  const ExpertKey key = slots_[static_cast<size_t>(number)].key;
  return odmoe::sections_are_apart(source_, key, plan_.layout(key.layer), reader_->alignment());
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
  const RecordLayout::Projection& projection =
      down ? source_.layout(key.layer).down : RecordLayout::Projection{};
  const SliceLocation at = source_.locate(key, projection.slice);
  return {
      ErrorKind::kBadFile,
      odmoe::format("expert {} of layer {} is damaged: its {} in {} at byte {} was read {} times and never "
                    "was what the checksum says; convert or copy the model again",
                    key.expert, key.layer, down ? "down" : "gate and up",
                    source_.files()[static_cast<size_t>(at.file)].string(), at.offset + projection.offset,
                    options_.read_attempts)};
}

Error ExpertStore::Impl::read_error(const LoadEnd& end) const {
  const ExpertKey key = slots_[static_cast<size_t>(end.slot)].key;
  const std::string& slice = source_.layout(key.layer).slices[static_cast<size_t>(end.slice)].name;
  const std::string path = reader_->path(end.read.file).string();
  if (end.read.error == 0) {
    return {ErrorKind::kBadFile,
            odmoe::format("cannot read expert {} of {} (layer {}): {} ends before byte {}; it was truncated: "
                          "fetch it again",
                          key.expert, slice, key.layer, path, end.read.offset + end.read.needed)};
  }
  return {
      ErrorKind::kIo,
      odmoe::format(
          "cannot read expert {} of {} (layer {}): {} at byte {} failed {} times: {}; check the drive and "
          "try again",
          key.expert, slice, key.layer, path, end.read.offset, end.read.failures,
          std::generic_category().message(end.read.error))};
}

// For the time during which there is something.
void ExpertStore::Impl::note_in_flight() {
  const auto note = [this](bool some, int64_t& since_us, uint64_t& sum_us) {
    if (some == (since_us >= 0)) return;
    const int64_t now_us = options_.clock->now_us();
    if (!some) sum_us += static_cast<uint64_t>(now_us - since_us);
    since_us = some ? now_us : -1;
  };
  note(scheduler_.in_flight() > 0, busy_since_us_, stats_.read_busy_us);
  note(scheduler_.in_flight() > scheduler_.fills_in_flight(), wanted_since_us_, stats_.wanted_busy_us);
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
  for (const Extent& extent : plan_.layout(key.layer).extents) {
    const ExtentRead read =
        extent_read(extent, source_.locate(key, extent.first_slice).offset, reader_->alignment());
    if (read.data_offset == extent.canonical_offset) continue;
    std::memmove(base + extent.canonical_offset, base + read.data_offset, extent.bytes);
  }
}

// Compares what has landed, and was not compared before, with its checksums where there are some.  It is then
// in the cache that computing wants it in anyway; see docs/expert-directory.md for what it costs.
void ExpertStore::Impl::compare(Arrival& arrival) {
  const Slot& slot = slots_[static_cast<size_t>(arrival.slot)];  // a loading slot's key is fixed
  const std::optional<RecordChecksums> wanted = source_.checksums(slot.key);
  const auto verdict = [&](RecordSection section, SectionState before, uint64_t checksum) {
    if (before != SectionState::kComing) return before;
    return !wanted || checksum_of(section, arrival.slot) == checksum ? SectionState::kSound
                                                                     : SectionState::kDamaged;
  };
  arrival.gate_up = verdict(RecordSection::kGateUp, slot.gate_up.state, wanted ? wanted->gate_up : 0);
  if (arrival.all) arrival.down = verdict(RecordSection::kDown, slot.down.state, wanted ? wanted->down : 0);
}

uint64_t ExpertStore::Impl::checksum_of(RecordSection section, int32_t number) {
  const std::byte* const base = arena_.slot(number);
  checksum_.reset();
  for (const Extent& extent : plan_.layout(slots_[static_cast<size_t>(number)].key.layer).extents) {
    const std::span bytes(base + extent.canonical_offset, extent.bytes);
    checksum_.add(section == RecordSection::kGateUp ? bytes.first(extent.gate_up_bytes)
                                                    : bytes.subspan(extent.gate_up_bytes));
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
        slot_at(end.slot).gate_up.state = SectionState::kSound;
        return true;
      }
      // Down may have to be read again while gate and up are in use.
      if (sections_are_apart(end.slot)) arrivals_.push_back({.slot = end.slot});
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
  const bool sound = arrival.gate_up == SectionState::kSound && arrival.down == SectionState::kSound;
  if (sound) {
    finish(arrival.slot);
  } else {
    read_again(arrival.slot);
  }
}

void ExpertStore::Impl::run_io() {
  MutexLock lock(mutex_);
  while (true) {
    requests_.clear();
    // One time for both questions, or a pause that ends between them would be waited for for ever.
    const int64_t now_us = options_.clock->now_us();
    while (!stopping_ && requests_.size() < requests_.capacity()) {
      start_hints();
      start_fill();
      ReadRequest request;
      if (!scheduler_.next(request, now_us)) break;
      requests_.push_back(request);
    }
    note_in_flight();
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

}  // namespace odmoe
