#include "store/slot_arena.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <map>
#include <numeric>
#include <utility>

#include "base/units.h"

namespace odmoe {

SlotPlan::SlotPlan(const ExpertSource& source, ReadAlignment alignment, const SlotKernels& kernels)
    : layouts_(static_cast<size_t>(source.n_layer())), class_of_(static_cast<size_t>(source.n_layer()), -1) {
  // Keyed by the bytes of the record and not of the slot: layers of one quantisation may differ by a block of
  // padding because their tensors begin at different phases, and should share slots all the same.
  std::map<uint64_t, int> class_by_record;
  for (int layer = 0; layer < source.n_layer(); ++layer) {
    if (source.n_expert(layer) == 0) continue;
    const auto index = static_cast<size_t>(layer);
    layouts_[index] = make_slot_layout(source, layer, alignment, kernels);
    const auto [entry, added] =
        class_by_record.try_emplace(source.layout(layer).bytes(), static_cast<int>(classes_.size()));
    if (added) classes_.emplace_back();
    class_of_[index] = entry->second;
    SlotClass& slot_class = classes_[static_cast<size_t>(entry->second)];
    slot_class.layers.push_back(layer);
    slot_class.slot_bytes = std::max(slot_class.slot_bytes, layouts_[index].slot_bytes);
    slot_class.n_expert += source.n_expert(layer);
  }
  for (SlotClass& slot_class : classes_) {
    uint64_t multiple = 1;
    for (const int layer : slot_class.layers) {
      multiple = std::lcm(multiple, slot_multiple(layer, alignment, kernels));
    }
    slot_class.slot_bytes = round_up(slot_class.slot_bytes, multiple);
    slot_class.min_slot = std::min(source.n_expert_used(), slot_class.n_expert);
  }
}

uint64_t SlotPlan::min_bytes() const {
  uint64_t sum = 0;
  for (const SlotClass& c : classes_) sum += c.slot_bytes * static_cast<uint64_t>(c.min_slot);
  return sum;
}

uint64_t SlotPlan::max_bytes() const {
  uint64_t sum = 0;
  for (const SlotClass& c : classes_) sum += c.slot_bytes * static_cast<uint64_t>(c.n_expert);
  return sum;
}

int32_t SlotPlan::n_slot() const {
  int32_t sum = 0;
  for (const SlotClass& c : classes_) sum += c.n_slot;
  return sum;
}

uint64_t SlotPlan::bytes() const {
  uint64_t sum = 0;
  for (const SlotClass& c : classes_) sum += c.slot_bytes * static_cast<uint64_t>(c.n_slot);
  return sum;
}

void SlotPlan::slots_within(uint64_t arena_bytes, std::span<int32_t> n_slot) const {
  assert(arena_bytes >= min_bytes() && n_slot.size() == classes_.size());
  uint64_t used = 0;
  const auto give = [&](int32_t slots_per_layer) {
    used = 0;
    for (size_t i = 0; i < classes_.size(); ++i) {
      const SlotClass& c = classes_[i];
      const int64_t wanted = static_cast<int64_t>(slots_per_layer) * static_cast<int64_t>(c.layers.size());
      n_slot[i] = static_cast<int32_t>(std::clamp<int64_t>(wanted, c.min_slot, c.n_expert));
      used += c.slot_bytes * static_cast<uint64_t>(n_slot[i]);
    }
    return used <= arena_bytes;
  };
  // The most slots per layer that fit; none always do.
  int32_t low = 0;
  int32_t high = 1;
  for (const SlotClass& c : classes_) high = std::max(high, c.n_expert + 1);
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    (give(middle) ? low : high) = middle;
  }
  give(low);
  // What is left is less than one more slot for every layer: one by one, in turn.
  for (bool given = true; given;) {
    given = false;
    for (size_t i = 0; i < classes_.size(); ++i) {
      const SlotClass& c = classes_[i];
      if (n_slot[i] == c.n_expert || used + c.slot_bytes > arena_bytes) continue;
      ++n_slot[i];
      used += c.slot_bytes;
      given = true;
    }
  }
}

void SlotPlan::divide(uint64_t arena_bytes) {
  std::vector<int32_t> n_slot(classes_.size());
  slots_within(arena_bytes, n_slot);
  for (size_t i = 0; i < classes_.size(); ++i) classes_[i].n_slot = n_slot[i];
  int32_t first_slot = 0;
  uint64_t first_offset = 0;
  for (SlotClass& c : classes_) {
    c.first_slot = first_slot;
    c.first_offset = first_offset;
    first_slot += c.n_slot;
    first_offset += c.slot_bytes * static_cast<uint64_t>(c.n_slot);
  }
}

Result<SlotArena> SlotArena::create(const SlotPlan& plan) {
  SlotArena arena;
  // Huge pages count for the reads as well: direct reads of 1 MiB at a depth of 16 brought 1.07 GiB/s into 4
  // KiB pages and 2.56 into huge ones, nothing else changed (virtio drive, bench/store_bench.cc).
  ODMOE_ASSIGN_OR_RETURN(arena.memory_, AlignedBuffer::allocate(plan.bytes(), true));
  arena.free_.resize((static_cast<size_t>(plan.n_slot()) + 63) / 64);
  arena.touched_.resize(arena.free_.size());
  for (const SlotClass& c : plan.classes()) {
    arena.ranges_.push_back({.first_slot = c.first_slot,
                             .n_slot = c.n_slot,
                             .n_usable = c.n_slot,
                             .first_offset = c.first_offset,
                             .slot_bytes = c.slot_bytes});
    for (int32_t slot = c.first_slot; slot < c.first_slot + c.n_slot; ++slot) arena.give_back(slot);
  }
  return arena;
}

const SlotArena::Range& SlotArena::range_of(int32_t slot) const {
  const auto after = std::ranges::upper_bound(ranges_, slot, {}, &Range::first_slot);
  assert(after != ranges_.begin());
  return *(after - 1);
}

std::byte* SlotArena::slot(int32_t slot) const {
  const Range& range = range_of(slot);
  return memory_.data() + range.first_offset +
         static_cast<uint64_t>(slot - range.first_slot) * range.slot_bytes;
}

int32_t SlotArena::next_free(int32_t from, int32_t end) const {
  for (int32_t at = from; at < end; at = (at / 64 + 1) * 64) {
    const uint64_t word = free_[static_cast<size_t>(at / 64)] >> static_cast<unsigned>(at % 64);
    if (word == 0) continue;
    const int32_t slot = at + std::countr_zero(word);
    return slot < end ? slot : -1;
  }
  return -1;
}

int32_t SlotArena::last_free(int32_t begin, int32_t from) const {
  for (int32_t at = from - 1; at >= begin; at = at / 64 * 64 - 1) {
    const uint64_t word = free_[static_cast<size_t>(at / 64)] << static_cast<unsigned>(63 - at % 64);
    if (word == 0) continue;
    const int32_t slot = at - std::countl_zero(word);
    return slot >= begin ? slot : -1;
  }
  return -1;
}

int32_t SlotArena::take(int slot_class, int32_t home, int32_t n_home) {
  const Range& range = ranges_[static_cast<size_t>(slot_class)];
  const int32_t home_end = home + n_home;
  int32_t slot = next_free(home, home_end);
  if (slot < 0) {
    const int32_t above = next_free(home_end, range.first_slot + range.n_usable);
    const int32_t below = last_free(range.first_slot, home);
    slot = above < 0 || (below >= 0 && home - below <= above - home_end) ? below : above;
  }
  if (slot < 0) return -1;
  free_[static_cast<size_t>(slot / 64)] &= ~(uint64_t{1} << static_cast<unsigned>(slot % 64));
  return slot;
}

void SlotArena::give_back(int32_t slot) {
  free_[static_cast<size_t>(slot / 64)] |= uint64_t{1} << static_cast<unsigned>(slot % 64);
  const Range& range = range_of(slot);
  if (slot - range.first_slot >= range.n_usable) discard_around(range, slot);
}

bool SlotArena::usable(int32_t slot) const {
  const Range& range = range_of(slot);
  return slot - range.first_slot < range.n_usable;
}

void SlotArena::populate(int32_t slot) {
  memory_.populate(static_cast<uint64_t>(this->slot(slot) - memory_.data()), range_of(slot).slot_bytes);
}

void SlotArena::discard_unused(int32_t slot) {
  const Range& range = range_of(slot);
  if (slot - range.first_slot >= range.n_usable && is_free(slot)) discard_around(range, slot);
}

bool SlotArena::is_free(int32_t slot) const {
  return (free_[static_cast<size_t>(slot / 64)] >> static_cast<unsigned>(slot % 64) & 1U) != 0;
}

void SlotArena::set_usable(int slot_class, int32_t n_usable) {
  Range& range = ranges_[static_cast<size_t>(slot_class)];
  assert(n_usable >= 0 && n_usable <= range.n_slot);
  const int32_t had = std::exchange(range.n_usable, n_usable);
  for (int32_t slot = range.first_slot + n_usable; slot < range.first_slot + had;) {
    int32_t end = slot;
    while (end < range.first_slot + range.n_slot && is_free(end)) ++end;
    if (end > slot) discard(range, slot, end);
    slot = end + 1;
  }
}

// A slot is not a multiple of a large page, so the pages that it shares with its neighbours go when the last
// of them is free.
void SlotArena::discard_around(const Range& range, int32_t slot) {
  const auto reach = static_cast<int32_t>(memory_.discard_bytes() / range.slot_bytes) + 1;
  const int32_t least = std::max(range.first_slot + range.n_usable, slot - reach);
  const int32_t most = std::min(range.first_slot + range.n_slot, slot + 1 + reach);
  int32_t begin = slot;
  while (begin > least && is_free(begin - 1)) --begin;
  int32_t end = slot + 1;
  while (end < most && is_free(end)) ++end;
  discard(range, begin, end);
}

void SlotArena::discard(const Range& range, int32_t begin, int32_t end) {
  memory_.discard(range.first_offset + static_cast<uint64_t>(begin - range.first_slot) * range.slot_bytes,
                  static_cast<uint64_t>(end - begin) * range.slot_bytes);
  for (int32_t slot = begin; slot < end; ++slot) {
    touched_[static_cast<size_t>(slot / 64)] &= ~(uint64_t{1} << static_cast<unsigned>(slot % 64));
  }
}

bool SlotArena::touch(int32_t slot) {
  uint64_t& word = touched_[static_cast<size_t>(slot / 64)];
  const uint64_t before = word;
  word |= uint64_t{1} << static_cast<unsigned>(slot % 64);
  return word != before;
}

}  // namespace odmoe
