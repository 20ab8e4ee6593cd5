#include "store/slot_layout.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "store/testing.h"

namespace odmoe {
namespace {

constexpr ReadAlignment kPage{.offset_bytes = 4096, .memory_bytes = 4096};

bool needs_move(const FakeSource& source, const SlotLayout& layout, int expert, ReadAlignment alignment) {
  for (const Extent& extent : layout.extents) {
    const ExtentRead read =
        extent_read(extent, source.locate({0, expert}, extent.first_slice).offset, alignment);
    if (read.data_offset != extent.canonical_offset) return true;
  }
  return false;
}

TEST(SlotLayout, BufferedReadsNeedNoRoomBesideTheData) {
  const FakeSource source({.slice_bytes = {1024, 1024, 2048}, .first_offset = 7});
  const SlotLayout layout = make_slot_layout(source, 0, kBuffered);
  EXPECT_EQ(layout.slot_bytes, 4096U);
  EXPECT_EQ(layout.gate_offset, 0U);
  EXPECT_EQ(layout.up_offset, 1024U);
  EXPECT_EQ(layout.down_offset, 2048U);
}

TEST(SlotLayout, SlicesWithOnePhaseAreReadInPlace) {
  // 96 into the page, as tensors in a GGUF begin anywhere, each expert a multiple of the page.
  const FakeSource source({.slice_bytes = {4096, 8192, 4096}, .first_offset = 96});
  const SlotLayout layout = make_slot_layout(source, 0, kPage);
  EXPECT_EQ(layout.gate_offset % 4096, 96U);
  for (int expert = 0; expert < 8; ++expert) EXPECT_FALSE(needs_move(source, layout, expert, kPage));
}

TEST(SlotLayout, ExpertsOfDifferentPhasesShareOnePlaceAndMostNeedNoMove) {
  // 256-byte steps through 512-byte sectors: every other expert is in step with the chosen place.
  const FakeSource source({.slice_bytes = {768, 768, 768}});
  const SlotLayout layout = make_slot_layout(source, 0, kSector);
  int moves = 0;
  for (int expert = 0; expert < 8; ++expert) moves += needs_move(source, layout, expert, kSector) ? 1 : 0;
  EXPECT_EQ(moves, 4);
}

TEST(SlotLayout, LittleMemoryAlignmentMakesMovesUnnecessary) {
  const FakeSource source({.slice_bytes = {772, 1300, 4}, .first_offset = 12});
  const SlotLayout layout = make_slot_layout(source, 0, kDword);
  for (int expert = 0; expert < 8; ++expert) EXPECT_FALSE(needs_move(source, layout, expert, kDword));
}

TEST(SlotLayout, SlicesThatFollowEachOtherAreReadAsOne) {
  const FakeSource packed({.slice_bytes = {1024, 1024, 2048}, .packed = true});
  const SlotLayout layout = make_slot_layout(packed, 0, kPage);
  ASSERT_EQ(layout.extents.size(), 1U);
  EXPECT_EQ(layout.extents[0].bytes, 4096U);
  EXPECT_EQ(layout.down_offset, layout.gate_offset + 2048);

  const FakeSource stacked({.slice_bytes = {1024, 1024, 2048}});
  EXPECT_EQ(make_slot_layout(stacked, 0, kPage).extents.size(), 3U);
}

TEST(SlotLayout, SlicesAreNotJoinedWhereThatWouldMisalignTheSecond) {
  const FakeSource source({.slice_bytes = {1000, 1024, 2048}, .packed = true});
  const SlotLayout layout = make_slot_layout(source, 0, kBuffered);
  EXPECT_EQ(layout.extents.size(), 2U);
  EXPECT_EQ(layout.up_offset % kDataAlignment, 0U);
}

TEST(SlotLayout, ProjectionsOfOneSliceKeepTheirOffsets) {
  class Merged final : public ExpertSource {
   public:
    Merged() {
      layout_.slices = {{.bytes = 2048, .name = "gate_up"}, {.bytes = 1024, .name = "down"}};
      layout_.gate = {.slice = 0, .offset = 0, .bytes = 1024};
      layout_.up = {.slice = 0, .offset = 1024, .bytes = 1024};
      layout_.down = {.slice = 1, .offset = 0, .bytes = 1024};
    }
    int n_layer() const override { return 1; }
    int n_expert(int /*layer*/) const override { return 4; }
    int n_expert_used() const override { return 1; }
    const RecordLayout& layout(int /*layer*/) const override { return layout_; }
    SliceLocation locate(ExpertKey key, int slice) const override {
      return {.file = 0,
              .offset = slice == 0 ? 2048U * static_cast<uint64_t>(key.expert)
                                   : 8192 + 1024U * static_cast<uint64_t>(key.expert)};
    }
    const std::vector<std::filesystem::path>& files() const override { return files_; }

   private:
    RecordLayout layout_;
    std::vector<std::filesystem::path> files_ = {"merged"};
  } const source;
  const SlotLayout layout = make_slot_layout(source, 0, kBuffered);
  EXPECT_EQ(layout.up_offset, layout.gate_offset + 1024);
  EXPECT_EQ(layout.down_offset, 2048U);
}

// How the two reads of an extent's sections lie to each other, where either can be read without the other.
void expect_sections_of(const Extent& extent, const ExtentRead& read, ReadAlignment alignment) {
  const ExtentRead gate_up = section_read(RecordSection::kGateUp, extent, read);
  const ExtentRead down = section_read(RecordSection::kDown, extent, read);
  ASSERT_EQ(gate_up.bytes + down.bytes, read.bytes);
  ASSERT_EQ(gate_up.needed > 0, extent.gate_up_bytes > 0);
  ASSERT_EQ(down.needed > 0, extent.gate_up_bytes < extent.bytes);
  for (const ExtentRead& section : {gate_up, down}) {
    ASSERT_EQ(section.file_offset % alignment.offset_bytes, 0U);
    ASSERT_EQ(section.bytes % alignment.offset_bytes, 0U);
    ASSERT_EQ(section.slot_offset % alignment.memory_bytes, 0U);
    ASSERT_EQ(section.slot_offset - read.slot_offset, section.file_offset - read.file_offset);
  }
  const uint64_t split = extent.canonical_offset + extent.gate_up_bytes;
  if (gate_up.bytes > 0) {
    ASSERT_LE(gate_up.slot_offset + gate_up.bytes, down.bytes > 0 ? split : gate_up.slot_offset + read.bytes);
  }
  if (down.bytes > 0) {
    ASSERT_EQ(down.slot_offset + down.needed, extent.canonical_offset + extent.bytes);
    ASSERT_EQ(down.slot_offset, gate_up.bytes > 0 ? split : read.slot_offset);
  }
}

TEST(SlotLayout, PartsAreApartWhereTheFirstEndsWithABlock) {
  const auto apart = [](const FakeModel& model, ReadAlignment alignment) {
    const FakeSource source(model);
    return sections_are_apart(source, {0, 1}, make_slot_layout(source, 0, alignment), alignment);
  };
  const FakeModel pages{.slice_bytes = {2048, 2048, 1024}, .joined = true, .packed = true, .gap = 3072};
  EXPECT_TRUE(apart(pages, kPage));
  EXPECT_TRUE(apart(pages, kSector));
  EXPECT_FALSE(
      apart({.slice_bytes = {2048, 2080, 1024}, .joined = true, .packed = true, .gap = 3040}, kPage));
  EXPECT_TRUE(
      apart({.slice_bytes = {2048, 2080, 1024}, .joined = true, .packed = true, .gap = 3040}, kBuffered));
  // Reads of their own, in the slot too, unless bytes have to be moved.
  EXPECT_TRUE(apart({.slice_bytes = {1024, 1024, 512}}, kSector));
  EXPECT_FALSE(apart({.slice_bytes = {768, 768, 768}}, kSector));
}

// Whatever the sizes and phases: reads are aligned, stay in the slot and off each other, and the data ends up
// aligned for the kernels.
TEST(SlotLayout, EveryReadStaysInItsOwnAlignedPartOfTheSlot) {
  std::mt19937 random(11);
  int n_apart = 0;
  for (int round = 0; round < 2000; ++round) {
    FakeModel model{.n_layer = 1, .n_expert = static_cast<int>(1 + random() % 9)};
    const uint64_t step = std::array{1, 4, 32, 512}[random() % 4];
    for (uint64_t& bytes : model.slice_bytes) bytes = step * (1 + random() % 40);
    model.packed = random() % 2 == 0;
    model.joined = model.packed && random() % 2 == 0;
    model.first_offset = random() % 2 == 0 ? 32 * (random() % 300) : random() % 9000;
    model.gap = random() % 3 == 0 ? random() % 700 : 0;
    const FakeSource source(model);
    const ReadAlignment alignment = std::array{kBuffered, kSector, kPage, kDword}[random() % 4];
    const SlotLayout layout = make_slot_layout(source, 0, alignment);
    ASSERT_EQ(layout.slot_bytes % slot_alignment(alignment), 0U);
    for (int expert = 0; expert < model.n_expert; ++expert) {
      uint64_t end = 0;
      for (const Extent& extent : layout.extents) {
        const uint64_t offset = source.locate({0, expert}, extent.first_slice).offset;
        const ExtentRead read = extent_read(extent, offset, alignment);
        ASSERT_EQ(read.file_offset % alignment.offset_bytes, 0U);
        ASSERT_EQ(read.bytes % alignment.offset_bytes, 0U);
        ASSERT_EQ(read.slot_offset % alignment.memory_bytes, 0U);
        ASSERT_LE(read.file_offset, offset);
        ASSERT_EQ(read.data_offset - read.slot_offset, offset - read.file_offset);
        ASSERT_EQ(read.file_offset + read.needed, offset + extent.bytes);
        ASSERT_GE(read.bytes, read.needed);
        ASSERT_GE(read.slot_offset, end);
        ASSERT_LE(read.data_offset, extent.canonical_offset);
        ASSERT_LT(extent.canonical_offset - read.data_offset, alignment.memory_bytes);
        ASSERT_EQ(extent.canonical_offset % kDataAlignment, 0U);
        if (sections_are_apart(source, {0, expert}, layout, alignment)) {
          ++n_apart;
          ASSERT_NO_FATAL_FAILURE(expect_sections_of(extent, read, alignment));
        }
        end = std::max(read.slot_offset + read.bytes, extent.canonical_offset + extent.bytes);
        ASSERT_LE(end, layout.slot_bytes);
      }
    }
    // Nothing is wasted beyond what alignment can ask for.
    const uint64_t waste =
        layout.extents.size() * (2 * alignment.offset_bytes + 2 * slot_alignment(alignment));
    ASSERT_LE(layout.slot_bytes, source.layout(0).bytes() + waste);
  }
  EXPECT_GT(n_apart, 1000);
}

TEST(SlotLayout, ProjectionsBeginWhereKernelsWantThemAndSlotsAreAsFarApart) {
  const FakeSource source({.slice_bytes = {1440, 1440, 2100}, .first_offset = 96});
  const SlotKernels kernels{.data_bytes = 256, .slot_multiples = {144 * 210, 144, 1}};
  for (const ReadAlignment alignment : {kBuffered, kDword, kSector}) {
    const SlotLayout layout = make_slot_layout(source, 0, alignment, kernels);
    for (const uint64_t offset : {layout.gate_offset, layout.up_offset, layout.down_offset}) {
      EXPECT_EQ(offset % 256, 0U);
    }
    EXPECT_EQ(layout.slot_bytes % 144, 0U);
    EXPECT_EQ(layout.slot_bytes % 210, 0U);
    EXPECT_EQ(layout.slot_bytes % slot_alignment(alignment), 0U);
    EXPECT_GE(layout.slot_bytes, layout.down_offset + 2100);
  }
}

}  // namespace
}  // namespace odmoe
