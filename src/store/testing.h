// A made-up model for the store's tests: experts whose bytes tell where they come from.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "format/expert_source.h"
#include "io/fake_reader.h"
#include "io/testing.h"
#include "store/expert_store.h"

namespace odmoe {

// What readers ask of offsets and of memory.
inline constexpr ReadAlignment kBuffered{.offset_bytes = 1, .memory_bytes = 1};
inline constexpr ReadAlignment kSector{.offset_bytes = 512, .memory_bytes = 512};
inline constexpr ReadAlignment kDword{.offset_bytes = 512, .memory_bytes = 4};

struct FakeModel {
  int n_layer = 3;
  int n_dense = 0;  // leading layers without experts
  int n_expert = 8;
  int n_expert_used = 2;
  std::vector<uint64_t> slice_bytes = {1024, 1024, 2048};  // gate, up, down
  bool joined = false;  // a record is one slice with the three in it, as an expert directory has it
  bool packed = false;  // a record's slices one after the other, as in an expert directory; else a stack of
                        // each slice, as in a GGUF
  uint64_t first_offset = 0;  // of the experts in each file
  uint64_t gap = 0;           // between records or stacks
  // Bytes added to each slice of this layer and those above, for layers of another class.
  int larger_from = 1 << 20;
  uint64_t larger_by = 0;
  bool checksums = false;  // of the records' sections
};

// One file per layer, named layerN.
class FakeSource final : public ExpertSource {
 public:
  explicit FakeSource(const FakeModel& model, const std::filesystem::path& folder = {}) : model_(model) {
    for (int layer = 0; layer < model.n_layer; ++layer) {
      files_.push_back(folder / ("layer" + std::to_string(layer)));
      RecordLayout layout;
      for (size_t i = 0; i < model.slice_bytes.size(); ++i) {
        layout.slices.push_back(
            {.bytes = model.slice_bytes[i] + (layer >= model.larger_from ? model.larger_by : 0),
             .name = "blk." + std::to_string(layer) + ".slice" + std::to_string(i)});
      }
      const auto whole = [&](int slice) {
        const int last = static_cast<int>(layout.slices.size()) - 1;
        const int at = std::min(slice, last);
        return RecordLayout::Projection{
            .slice = at, .offset = 0, .bytes = layout.slices[static_cast<size_t>(at)].bytes};
      };
      layout.gate = whole(0);
      layout.up = whole(1);
      layout.down = whole(2);
      if (model.joined) join(layout);
      layouts_.push_back(std::move(layout));
    }
    if (!model.checksums) return;
    for (int layer = 0; layer < model.n_layer; ++layer) {
      for (int expert = 0; expert < model.n_expert; ++expert) checksums_.push_back(compute({layer, expert}));
    }
  }

  int n_layer() const override { return model_.n_layer; }
  int n_expert(int layer) const override { return layer < model_.n_dense ? 0 : model_.n_expert; }
  int n_expert_used() const override { return model_.n_expert_used; }
  const RecordLayout& layout(int layer) const override { return layouts_[static_cast<size_t>(layer)]; }
  const std::vector<std::filesystem::path>& files() const override { return files_; }
  SliceLocation locate(ExpertKey key, int slice) const override {
    const RecordLayout& record = layout(key.layer);
    const auto expert = static_cast<uint64_t>(key.expert);
    uint64_t offset = model_.first_offset;
    if (model_.packed) {
      offset += expert * (record.bytes() + model_.gap);
      for (int i = 0; i < slice; ++i) offset += record.slices[static_cast<size_t>(i)].bytes;
    } else {
      for (int i = 0; i < slice; ++i) {
        offset +=
            static_cast<uint64_t>(model_.n_expert) * record.slices[static_cast<size_t>(i)].bytes + model_.gap;
      }
      offset += expert * record.slices[static_cast<size_t>(slice)].bytes;
    }
    return {.file = key.layer, .offset = offset};
  }

  std::optional<RecordChecksums> checksums(ExpertKey key) const override {
    if (!model_.checksums) return std::nullopt;
    const int expert = key.layer * model_.n_expert + key.expert;
    return checksums_[static_cast<size_t>(expert)];
  }

  uint64_t file_bytes(int layer) const {
    uint64_t end = 0;
    for (int slice = 0; slice < static_cast<int>(layout(layer).slices.size()); ++slice) {
      const uint64_t bytes = layout(layer).slices[static_cast<size_t>(slice)].bytes;
      end = std::max(end, locate({layer, model_.n_expert - 1}, slice).offset + bytes);
    }
    return end;
  }
  std::vector<std::byte> contents(int layer) const {
    return pattern(file_bytes(layer), static_cast<uint64_t>(layer));
  }
  void add_to(FakeDisk& disk) const {
    for (int layer = 0; layer < n_layer(); ++layer)
      disk.add(files_[static_cast<size_t>(layer)], contents(layer));
  }
  void write_files() const {
    for (int layer = 0; layer < n_layer(); ++layer) {
      const std::vector<std::byte> data = contents(layer);
      std::ofstream(files_[static_cast<size_t>(layer)], std::ios::binary)
          .write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
    }
  }

 private:
  static void join(RecordLayout& layout) {
    uint64_t begin = 0;
    for (RecordLayout::Projection* const projection : {&layout.gate, &layout.up, &layout.down}) {
      const uint64_t bytes = layout.slices[static_cast<size_t>(projection->slice)].bytes;
      *projection = {.slice = 0, .offset = begin, .bytes = bytes};
      begin += bytes;
    }
    layout.slices = {{.bytes = begin, .name = layout.slices.front().name}};
  }
  RecordChecksums compute(ExpertKey key) const {
    std::vector<std::byte> record;
    for (int slice = 0; slice < static_cast<int>(layout(key.layer).slices.size()); ++slice) {
      const uint64_t begin = locate(key, slice).offset;
      for (uint64_t i = 0; i < layout(key.layer).slices[static_cast<size_t>(slice)].bytes; ++i) {
        record.push_back(pattern_byte(static_cast<uint64_t>(key.layer), begin + i));
      }
    }
    const uint64_t gate_up_bytes = layout(key.layer).gate_up_bytes();
    return {.gate_up = Checksum::of(std::span(record).first(gate_up_bytes)),
            .down = Checksum::of(std::span(record).subspan(gate_up_bytes))};
  }

  FakeModel model_;
  std::vector<std::filesystem::path> files_;
  std::vector<RecordLayout> layouts_;
  std::vector<RecordChecksums> checksums_;  // by layer and expert
};

// Whether the projections of a ready lease are the expert's own, byte for byte; `with_down` false: of one
// whose gate and up have landed, these.
inline ::testing::AssertionResult holds_expert(ExpertStore& store, const FakeSource& source,
                                               const ExpertLease& lease, bool with_down = true) {
  const SlotView view = store.slot_view(lease.key().layer);
  const RecordLayout& record = source.layout(lease.key().layer);
  const std::byte* const slot =
      store.arena().data() + view.first_slot_offset + static_cast<uint64_t>(lease.slot()) * view.slot_bytes;
  const struct {
    const RecordLayout::Projection& projection;
    uint64_t offset;
  } placed[] = {
      {record.gate, view.gate_offset}, {record.up, view.up_offset}, {record.down, view.down_offset}};
  for (const auto& place : std::span(placed).first(with_down ? 3 : 2)) {
    const uint64_t begin =
        source.locate(lease.key(), place.projection.slice).offset + place.projection.offset;
    for (uint64_t i = 0; i < place.projection.bytes; ++i) {
      if (slot[place.offset + i] == pattern_byte(static_cast<uint64_t>(lease.key().layer), begin + i))
        continue;
      return ::testing::AssertionFailure()
             << "expert " << lease.key().expert << " of layer " << lease.key().layer << " is wrong at byte "
             << i << " of slice " << place.projection.slice;
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace odmoe
