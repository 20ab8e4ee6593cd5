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
    const SliceLocation a = source.locate({layer, expert}, slice - 1);
    const SliceLocation b = source.locate({layer, expert}, slice);
    if (a.file != b.file || a.offset + before != b.offset) return false;
  }
  return true;
}

std::vector<SliceRun> join_slices(const ExpertSource& source, int layer) {
  const std::vector<RecordLayout::Slice>& slices = source.layout(layer).slices;
  std::vector<SliceRun> runs;
  for (int i = 0; i < static_cast<int>(slices.size()); ++i) {
    // A slice inside a run lies where the run puts it, so join only where that is an aligned place.
    const bool join = !runs.empty() && runs.back().bytes % kDataAlignment == 0 && follows(source, layer, i);
    if (!join) runs.push_back({.first_slice = i});
    ++runs.back().n_slice;
    runs.back().bytes += slices[static_cast<size_t>(i)].bytes;
  }
  return runs;
}

// The canonical offset of a run relative to the start of its region in the slot, which is aligned.
uint64_t choose_offset(const std::map<uint64_t, int>& phases, ReadAlignment alignment) {
  const uint64_t largest = phases.rbegin()->first;
  if (phases.size() == 1 && largest % kDataAlignment == 0) return largest;
  // Those whose distance to the canonical offset is a multiple of the memory alignment need no move: choose
  // the offset that suits most experts.
  const uint64_t step = std::lcm<uint64_t>(alignment.memory_bytes, kDataAlignment);
  std::map<uint64_t, int> votes;
  for (const auto& [phase, count] : phases) {
    // The smallest aligned offset, if there is one, that is in step with this phase.
    for (uint64_t offset = phase % alignment.memory_bytes; offset < step; offset += alignment.memory_bytes) {
      if (offset % kDataAlignment == 0) {
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

Landing land(const SliceRun& run, uint64_t file_offset, ReadAlignment alignment) {
  const uint64_t start = round_down(file_offset, alignment.offset_bytes);
  const uint64_t phase = file_offset - start;
  Landing landing;
  landing.file_offset = start;
  landing.needed = phase + run.bytes;
  landing.bytes = round_up(landing.needed, alignment.offset_bytes);
  landing.slot_offset = round_down(run.canonical_offset - phase, alignment.memory_bytes);
  landing.data_offset = landing.slot_offset + phase;
  return landing;
}

bool sections_are_apart(const ExpertSource& source, ExpertKey key, const SlotLayout& layout,
                        ReadAlignment alignment) {
  return std::ranges::all_of(layout.runs, [&](const SliceRun& run) {
    const Landing landing = land(run, source.locate(key, run.first_slice).offset, alignment);
    if (landing.data_offset != run.canonical_offset) return false;
    if (run.gate_up_bytes == 0 || run.gate_up_bytes == run.bytes) return true;
    const uint64_t split = landing.needed - run.bytes + run.gate_up_bytes;
    return split % alignment.offset_bytes == 0 && split % alignment.memory_bytes == 0;
  });
}

Landing landing_of(RecordSection section, const SliceRun& run, Landing landing) {
  if (section == RecordSection::kAll) return landing;
  const bool has_gate_up = run.gate_up_bytes > 0, has_down = run.gate_up_bytes < run.bytes;
  if (section == RecordSection::kGateUp ? !has_gate_up : !has_down) {
    landing.bytes = landing.needed = 0;
  } else if (has_gate_up && has_down) {
    const uint64_t split = landing.needed - run.bytes + run.gate_up_bytes;
    if (section == RecordSection::kGateUp) {
      landing.bytes = landing.needed = split;
    } else {
      landing.file_offset += split;
      landing.slot_offset += split;
      landing.bytes -= split;
      landing.needed -= split;
    }
  }
  return landing;
}

SlotLayout make_slot_layout(const ExpertSource& source, int layer, ReadAlignment alignment) {
  const RecordLayout& record = source.layout(layer);
  SlotLayout layout;
  layout.runs = join_slices(source, layer);
  std::vector<uint64_t> slice_offset(record.slices.size());
  uint64_t end = 0;  // of what is laid out so far
  uint64_t gate_up_left = record.gate_up_bytes();
  for (SliceRun& run : layout.runs) {
    std::map<uint64_t, int> phases;  // with the number of experts that have it
    for (int expert = 0; expert < source.n_expert(layer); ++expert) {
      ++phases[source.locate({layer, expert}, run.first_slice).offset % alignment.offset_bytes];
    }
    const uint64_t region = round_up(end, slot_alignment(alignment));
    run.canonical_offset = region + choose_offset(phases, alignment);
    for (const auto& [phase, count] : phases) {
      const Landing landing = land(run, phase, alignment);
      end = std::max(end, landing.slot_offset + landing.bytes);
    }
    // The last byte after a move can lie behind the last byte read.
    end = std::max(end, run.canonical_offset + run.bytes);

    uint64_t offset = run.canonical_offset;
    run.gate_up_bytes = std::min(run.bytes, gate_up_left);
    gate_up_left -= run.gate_up_bytes;
    for (int i = run.first_slice; i < run.first_slice + run.n_slice; ++i) {
      slice_offset[static_cast<size_t>(i)] = offset;
      offset += record.slices[static_cast<size_t>(i)].bytes;
    }
  }
  layout.slot_bytes = round_up(end, slot_alignment(alignment));
  const auto place = [&](const RecordLayout::Projection& projection) {
    return slice_offset[static_cast<size_t>(projection.slice)] + projection.offset;
  };
  layout.gate_offset = place(record.gate);
  layout.up_offset = place(record.up);
  layout.down_offset = place(record.down);
  return layout;
}

}  // namespace odmoe
