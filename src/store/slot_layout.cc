#include "store/slot_layout.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/units.h"

namespace odmoe {
namespace {

constexpr uint64_t kCacheLine = 64;

// Whether slice `slice` of every expert begins where the one before it ends.
bool follows(const ExpertSource& source, int layer, int slice) {
  const uint64_t before = source.layout(layer).slices[static_cast<size_t>(slice) - 1].bytes;
  for (int expert = 0; expert < source.n_expert(layer); ++expert) {
    if (!source.holds({layer, expert})) continue;
    const SliceLocation a = source.locate({layer, expert}, slice - 1);
    const SliceLocation b = source.locate({layer, expert}, slice);
    if (a.file != b.file || a.offset + before != b.offset) return false;
  }
  return true;
}

std::vector<Extent> join_slices(const ExpertSource& source, int layer, uint64_t data_bytes) {
  const std::vector<RecordLayout::Slice>& slices = source.layout(layer).slices;
  std::vector<Extent> extents;
  for (int i = 0; i < static_cast<int>(slices.size()); ++i) {
    // A slice inside an extent lies where the extent puts it, so join only where that is an aligned place.
    const bool join = !extents.empty() && extents.back().bytes % data_bytes == 0 && follows(source, layer, i);
    if (!join) extents.push_back({.first_slice = i});
    ++extents.back().n_slice;
    extents.back().bytes += slices[static_cast<size_t>(i)].bytes;
  }
  return extents;
}

// The canonical offset of an extent relative to the start of its region in the slot, which is aligned.
uint64_t choose_offset(const std::map<uint64_t, int>& phases, ReadAlignment alignment, uint64_t data_bytes) {
  const uint64_t largest = phases.rbegin()->first;
  if (phases.size() == 1 && largest % data_bytes == 0) return largest;
  // Those whose distance to the canonical offset is a multiple of the memory alignment need no move: choose
  // the offset that suits most experts.
  const uint64_t step = std::lcm<uint64_t>(alignment.memory_bytes, data_bytes);
  std::map<uint64_t, int> votes;
  for (const auto& [phase, count] : phases) {
    // The smallest aligned offset, if there is one, that is in step with this phase.
    for (uint64_t offset = phase % alignment.memory_bytes; offset < step; offset += alignment.memory_bytes) {
      if (offset % data_bytes == 0) {
        votes[offset] += count;
        break;
      }
    }
  }
  const auto best = std::ranges::max_element(votes, {}, [](const auto& vote) { return vote.second; });
  const uint64_t residue = votes.empty() ? 0 : best->first;
  return round_up(largest - std::min(largest, residue), step) + residue;
}

}  // namespace

uint64_t slot_alignment(ReadAlignment alignment) {
  return std::max<uint64_t>(alignment.memory_bytes, kCacheLine);
}

ExtentRead extent_read(const Extent& extent, uint64_t file_offset, ReadAlignment alignment) {
  const uint64_t start = round_down(file_offset, alignment.offset_bytes);
  const uint64_t phase = file_offset - start;
  ExtentRead read;
  read.file_offset = start;
  read.needed = phase + extent.bytes;
  read.bytes = round_up(read.needed, alignment.offset_bytes);
  read.slot_offset = round_down(extent.canonical_offset - phase, alignment.memory_bytes);
  read.data_offset = read.slot_offset + phase;
  return read;
}

bool sections_are_apart(const ExpertSource& source, ExpertKey key, const SlotLayout& layout,
                        ReadAlignment alignment) {
  return std::ranges::all_of(layout.extents, [&](const Extent& extent) {
    const ExtentRead read = extent_read(extent, source.locate(key, extent.first_slice).offset, alignment);
    if (read.data_offset != extent.canonical_offset) return false;
    if (extent.gate_up_bytes == 0 || extent.gate_up_bytes == extent.bytes) return true;
    const uint64_t split = read.needed - extent.bytes + extent.gate_up_bytes;
    return split % alignment.offset_bytes == 0 && split % alignment.memory_bytes == 0;
  });
}

ExtentRead section_read(RecordSection section, const Extent& extent, ExtentRead read) {
  if (section == RecordSection::kAll) return read;
  const bool has_gate_up = extent.gate_up_bytes > 0, has_down = extent.gate_up_bytes < extent.bytes;
  if (section == RecordSection::kGateUp ? !has_gate_up : !has_down) {
    read.bytes = read.needed = 0;
  } else if (has_gate_up && has_down) {
    const uint64_t split = read.needed - extent.bytes + extent.gate_up_bytes;
    if (section == RecordSection::kGateUp) {
      read.bytes = read.needed = split;
    } else {
      read.file_offset += split;
      read.slot_offset += split;
      read.bytes -= split;
      read.needed -= split;
    }
  }
  return read;
}

uint64_t slot_multiple(int layer, ReadAlignment alignment, const SlotKernels& kernels) {
  const uint64_t aligned = std::lcm(slot_alignment(alignment), kernels.data_bytes);
  return kernels.slot_multiples.empty()
             ? aligned
             : std::lcm(aligned, kernels.slot_multiples[static_cast<size_t>(layer)]);
}

SlotLayout make_slot_layout(const ExpertSource& source, int layer, ReadAlignment alignment,
                            const SlotKernels& kernels) {
  const RecordLayout& record = source.layout(layer);
  SlotLayout layout;
  layout.extents = join_slices(source, layer, kernels.data_bytes);
  const uint64_t aligned = std::lcm(slot_alignment(alignment), kernels.data_bytes);
  std::vector<uint64_t> slice_offset(record.slices.size());
  uint64_t end = 0;  // of what is laid out so far
  uint64_t gate_up_left = record.gate_up_bytes();
  for (Extent& extent : layout.extents) {
    std::map<uint64_t, int> phases;  // with the number of experts that have it
    for (int expert = 0; expert < source.n_expert(layer); ++expert) {
      if (!source.holds({layer, expert})) continue;
      ++phases[source.locate({layer, expert}, extent.first_slice).offset % alignment.offset_bytes];
    }
    if (phases.empty()) phases[0] = 1;  // none of them is here
    const uint64_t region = round_up(end, aligned);
    extent.canonical_offset = region + choose_offset(phases, alignment, kernels.data_bytes);
    for (const auto& [phase, count] : phases) {
      const ExtentRead read = extent_read(extent, phase, alignment);
      end = std::max(end, read.slot_offset + read.bytes);
    }
    // The last byte after a move can lie behind the last byte read.
    end = std::max(end, extent.canonical_offset + extent.bytes);

    uint64_t offset = extent.canonical_offset;
    extent.gate_up_bytes = std::min(extent.bytes, gate_up_left);
    gate_up_left -= extent.gate_up_bytes;
    for (int i = extent.first_slice; i < extent.first_slice + extent.n_slice; ++i) {
      slice_offset[static_cast<size_t>(i)] = offset;
      offset += record.slices[static_cast<size_t>(i)].bytes;
    }
  }
  layout.slot_bytes = round_up(end, slot_multiple(layer, alignment, kernels));
  const auto place = [&](const RecordLayout::Projection& projection) {
    return slice_offset[static_cast<size_t>(projection.slice)] + projection.offset;
  };
  layout.gate_offset = place(record.gate);
  layout.up_offset = place(record.up);
  layout.down_offset = place(record.down);
  return layout;
}

}  // namespace odmoe
