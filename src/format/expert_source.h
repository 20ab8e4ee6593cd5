// Where routed experts lie on the disk: what the expert store needs to know of any checkpoint format.
#pragma once

#include <compare>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace odmoe {

// One routed expert of one layer.  `layer` counts all the model's layers, dense lead included.
struct ExpertKey {
  int32_t layer = 0;
  int32_t expert = 0;
  auto operator<=>(const ExpertKey&) const = default;
};

// What ggml's kernels want the data of a matrix aligned to where they compute on it: of projections in a
// slot, and so of slices in the record of an expert directory, which is read into a slot as it is.  What is
// made room for in memory of our own has kTensorAlignment (backend/backend.h), where tensors lie in a GGUF
// the alignment that it says (format/gguf_header.h), and reads that of their drive (io/async_reader.h).
inline constexpr uint64_t kDataAlignment = 32;

// The record of an expert: its gate, up and down projections, stored in one or more contiguous slices.
// The same for all experts of a layer; layers may differ (mixed quantisations).
struct RecordLayout {
  struct Slice {
    uint64_t bytes = 0;
    std::string name;  // what an error message calls it: "blk.3.ffn_gate_exps.weight"
  };
  // Where in the record the model finds a projection.  A merged gate_up tensor is one slice with two;
  // where experts have no gate, its place is up's.
  struct Projection {
    int slice = 0;
    uint64_t offset = 0;  // bytes from the start of that slice
    uint64_t bytes = 0;
  };
  std::vector<Slice> slices;  // in the order in which they should be read: gate, up, down
  Projection gate, up, down;

  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const Slice& slice : slices) sum += slice.bytes;
    return sum;
  }
  // The record's two sections: its bytes (the slices one after another) before down begins, and the others.
  // Where down does not begin behind gate and up, all of it is the first.
  uint64_t gate_up_bytes() const;
};

// XXH3-64 of the two sections of a record (RecordLayout::gate_up_bytes): gate and up can be known to be sound
// while down is still on its way.
struct RecordChecksums {
  uint64_t gate_up = 0;
  uint64_t down = 0;
  bool operator==(const RecordChecksums&) const = default;
};

struct SliceLocation {
  int file = 0;         // index into ExpertSource::files()
  uint64_t offset = 0;  // bytes from the start of that file
};

// Immutable after construction, so thread-safe.
class ExpertSource {
 public:
  virtual ~ExpertSource() = default;
  virtual int n_layer() const = 0;                          // all layers of the model
  virtual int n_expert(int layer) const = 0;                // 0 for a dense layer
  virtual int n_expert_used() const = 0;                    // experts chosen per token and layer
  virtual const RecordLayout& layout(int layer) const = 0;  // of a layer that has experts
  virtual SliceLocation locate(ExpertKey key, int slice) const = 0;
  virtual const std::vector<std::filesystem::path>& files() const = 0;
  // Whether an expert is there; false for those that other machines have (Checkpoint::share), which nobody
  // may ask for.
  virtual bool holds(ExpertKey /*key*/) const { return true; }
  // Where the format has checksums; for all experts that are there or none.
  virtual std::optional<RecordChecksums> checksums(ExpertKey /*key*/) const { return std::nullopt; }

  uint64_t total_bytes() const;  // of all experts
};

}  // namespace odmoe
