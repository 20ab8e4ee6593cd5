// Where the slices of an expert lie inside its slot.
//
// Direct I/O reads whole blocks at block-aligned file offsets into aligned memory, but slices begin anywhere
// in a file.  What matters is a slice's *phase*, its file offset modulo the block:
//   - The phase is mostly the same for all experts of a layer (a slice's size is then a multiple of the
//   block,
//     or the reads are buffered).  The slot leaves room for the bytes in front, the read lands so that every
//     slice falls on the same place, and nothing is ever copied.
//   - Where phases differ between experts, one read lands as near below that place as the memory alignment
//     allows, and the bytes are moved up by less than one alignment unit when they have arrived.  A file
//     system that asks for little memory alignment (4 bytes is common) needs no move even then.
// The place itself, the *canonical offset*, is the same for all experts of a layer, so that kernels can step
// from slot to slot; it is a multiple of kDataAlignment, which costs a move where a file's phase is not.
#pragma once

#include <cstdint>
#include <vector>

#include "format/expert_source.h"
#include "io/async_reader.h"

namespace odmoe {

// Slices that follow each other without a gap in the files of every expert of a layer, and so are read as
// one.
struct Extent {
  int first_slice = 0;
  int n_slice = 0;
  uint64_t bytes = 0;
  uint64_t canonical_offset = 0;  // in the slot, of the first slice
  uint64_t gate_up_bytes = 0;     // of the record's first section (RecordLayout::gate_up_bytes); 0: only down
};

// What of a record is read.
enum class RecordSection : uint8_t { kAll, kGateUp, kDown };

// How an extent of one expert is read.
struct ExtentRead {
  uint64_t file_offset = 0;  // aligned
  uint64_t bytes = 0;        // aligned; reaches to the end of the extent and perhaps beyond
  uint64_t needed = 0;       // of these, up to the end of the extent
  uint64_t slot_offset = 0;  // where the first byte read lands
  uint64_t data_offset = 0;  // where the extent's first byte then is; to be moved to the canonical offset
};

struct SlotLayout {
  std::vector<Extent> extents;
  uint64_t slot_bytes = 0;  // a multiple of slot_alignment() and of what kernels ask
  uint64_t gate_offset = 0, up_offset = 0, down_offset = 0;
};

// What the kernels that compute on slots ask of them.
struct SlotKernels {
  uint64_t data_bytes = kDataAlignment;  // projections begin on multiples of this, a power of two
  std::vector<uint64_t> slot_multiples;  // by layer, from one slot to the next; empty: any distance does
};

// Slots start on multiples of this: the memory alignment of reads, and a cache line.
uint64_t slot_alignment(ReadAlignment alignment);
// And so far apart, or a multiple of it, are slots that the layer's experts may be in.
uint64_t slot_multiple(int layer, ReadAlignment alignment, const SlotKernels& kernels);

SlotLayout make_slot_layout(const ExpertSource& source, int layer, ReadAlignment alignment,
                            const SlotKernels& kernels = {});

// The read of `extent`, which begins at `file_offset` in the file of the expert asked for.
ExtentRead extent_read(const Extent& extent, uint64_t file_offset, ReadAlignment alignment);

// Whether either section of the expert can be read without touching a byte of the other in the slot: nothing
// has to be moved, and the first ends with a block.
bool sections_are_apart(const ExpertSource& source, ExpertKey key, const SlotLayout& layout,
                        ReadAlignment alignment);

// The section's share of `read`, for an expert whose sections_are_apart(); no bytes where the extent has
// nothing of it.
ExtentRead section_read(RecordSection section, const Extent& extent, ExtentRead read);

}  // namespace odmoe
