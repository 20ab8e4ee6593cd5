// The bytes of all slots, divided among classes of layers whose experts take the same room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "format/expert_source.h"
#include "io/async_reader.h"
#include "store/slot_layout.h"

namespace odmoe {

// Layers that share slots: all have experts, and records of the same size.
struct SlotClass {
  std::vector<int> layers;
  uint64_t slot_bytes = 0;
  int32_t n_expert = 0;       // of all its layers
  int32_t min_slot = 0;       // n_expert_used, or all experts if there are fewer
  int32_t n_slot = 0;         // these two are set by divide()
  int32_t first_slot = 0;     // number of its first slot, counted over all classes
  uint64_t first_offset = 0;  // of that slot, bytes from the start of the arena
};

// The layout of every layer and the classes that follow from it.  Immutable after divide().
class SlotPlan {
 public:
  SlotPlan(const ExpertSource& source, ReadAlignment alignment, const SlotKernels& kernels = {});

  uint64_t min_bytes() const;  // min_slot slots of each class
  uint64_t max_bytes() const;  // a slot for every expert

  // Gives each class its slots: as many per layer for all classes, so in proportion to layers times slot
  // bytes, within each class's limits.  Requires arena_bytes >= min_bytes().
  void divide(uint64_t arena_bytes);
  // How many slots each class would get of an arena of this size; [classes().size()].  Allocates nothing.
  void slots_within(uint64_t arena_bytes, std::span<int32_t> n_slot) const;

  const std::vector<SlotClass>& classes() const { return classes_; }
  const SlotLayout& layout(int layer) const { return layouts_[static_cast<size_t>(layer)]; }
  int class_of(int layer) const { return class_of_[static_cast<size_t>(layer)]; }  // -1: a dense layer
  int32_t n_slot() const;
  uint64_t bytes() const;  // of all slots

 private:
  std::vector<SlotLayout> layouts_;  // empty for dense layers
  std::vector<int> class_of_;
  std::vector<SlotClass> classes_;
};

// The memory, and which slots are free.  Slots are numbered over all classes.  One owner.
//
// Of each class the first slots, as many as set_usable() said last, are in use; the others are address space
// for later.  Memory that the free ones among them had goes back to the system at once, that of the others
// when they are given back.
class SlotArena {
 public:
  static Result<SlotArena> create(const SlotPlan& plan);

  std::span<std::byte> bytes() const { return memory_.span(); }
  std::byte* slot(int32_t slot) const;

  // A free slot of the class, in [home, home + n_home) or else as near to it as there is; -1 when none is
  // free. Neighbours matter because the compute side's cost grows with the span of slots that it passes to a
  // kernel.
  int32_t take(int slot_class, int32_t home, int32_t n_home);
  void give_back(int32_t slot);

  // How many slots of a class take() may give out; at first all of them.
  void set_usable(int slot_class, int32_t n_usable);
  bool usable(int32_t slot) const;

  // Whether the slot has no memory of its own yet; from now on it counts as one that has.
  bool touch(int32_t slot);
  // Has the system make the memory of a slot that is taken now, rather than when it is first written to.  The
  // one function that another thread may call at any time.
  void populate(int32_t slot);
  // After that: gives the memory back if the slot is free by now and not in use any more.
  void discard_unused(int32_t slot);

 private:
  struct Range {
    int32_t first_slot = 0, n_slot = 0, n_usable = 0;
    uint64_t first_offset = 0, slot_bytes = 0;
  };
  SlotArena() = default;
  const Range& range_of(int32_t slot) const;
  bool is_free(int32_t slot) const;
  void discard_around(const Range& range, int32_t slot);
  void discard(const Range& range, int32_t begin, int32_t end);
  int32_t next_free(int32_t from, int32_t end) const;    // in [from, end), else -1
  int32_t last_free(int32_t begin, int32_t from) const;  // in [begin, from), else -1

  AlignedBuffer memory_;
  std::vector<Range> ranges_;
  std::vector<uint64_t> free_;     // a bit per slot
  std::vector<uint64_t> touched_;  // likewise
};

}  // namespace odmoe
