// Many threads, short reads, errors and every kind of reader: what is leased and ready is always right.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "store/testing.h"

namespace odmoe {
namespace {

struct Case {
  const char* name;
  FakeModel model;
  int32_t n_slot;
  ReadAlignment alignment;
  int short_percent, error_percent;
  int damage_percent = 0;  // so few that no section is damaged ten times in a row, or so many that some are
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

uint64_t arena_for(const FakeSource& source, ReadAlignment alignment, const FakeModel& model,
                   int32_t n_slot) {
  return std::max(ExpertStore::min_arena_bytes(source, alignment),
                  ExpertStore::max_arena_bytes(source, alignment) /
                      static_cast<uint64_t>((model.n_layer - model.n_dense) * model.n_expert) *
                      static_cast<uint64_t>(n_slot));
}

// Waits for all of `leases`, beginning with gate and up where they come first, as a model computes; until one
// fails.  Returns how many experts it has checked.
int use_in_parts(ExpertStore& store, const FakeSource& source, std::vector<ExpertLease>& leases,
                 bool errors_happen) {
  std::vector<ExpertLease> begun;
  int n_checked = 0;
  const auto drop = [&](std::vector<ExpertLease>& list, size_t n) {
    for (size_t i = 0; i < n; ++i) EXPECT_TRUE(holds_expert(store, source, list[i]));
    list.erase(list.begin(), list.begin() + static_cast<ptrdiff_t>(n));
    n_checked += static_cast<int>(n);
  };
  while (!leases.empty() || !begun.empty()) {
    const auto landed = store.wait_landed(begun, leases);
    if (!landed.has_value()) {
      EXPECT_TRUE(errors_happen) << landed.error().message;
      leases.clear();
      break;
    }
    drop(begun, landed->ready);
    drop(leases, landed->ready_new);
    for (size_t i = 0; i < landed->gate_up_new; ++i) {
      begun.push_back(std::move(leases.front()));
      leases.erase(leases.begin());
    }
    // Down may be read again meanwhile: gate and up stay what they were.
    for (const ExpertLease& lease : begun) EXPECT_TRUE(holds_expert(store, source, lease, false));
  }
  return n_checked;
}

// One thread of random leases, hints and releases.  Returns how many experts it has checked.
int visit_at_random(ExpertStore& store, const FakeSource& source, uint32_t seed, int n_round,
                    bool errors_happen) {
  std::mt19937 random(seed);
  std::vector<ExpertLease> leases;
  std::vector<int32_t> experts;
  std::vector<ExpertKey> hints;
  int n_checked = 0;
  for (int round = 0; round < n_round; ++round) {
    int layer = static_cast<int>(random() % static_cast<uint32_t>(source.n_layer()));
    while (source.n_expert(layer) == 0) layer = (layer + 1) % source.n_layer();
    experts.clear();
    const size_t wanted = 1 + random() % 4;
    while (experts.size() < wanted) {
      const auto expert = static_cast<int32_t>(random() % static_cast<uint32_t>(source.n_expert(layer)));
      if (std::ranges::find(experts, expert) == experts.end()) experts.push_back(expert);
    }
    if (random() % 4 == 0) {
      hints.clear();
      for (auto i = random() % 6; i-- > 0;) {
        hints.push_back(
            {layer, static_cast<int32_t>(random() % static_cast<uint32_t>(source.n_expert(layer)))});
      }
      store.prefetch(hints, random() % 2 == 0 ? Reach::kShare : Reach::kBorrow);
    }
    // None when the other threads hold all that the layer may use; they never wait for a slot while they do.
    while (store.lease(layer, experts, leases) == 0) std::this_thread::yield();
    if (random() % 8 == 0) leases.clear();  // a change of mind
    if (random() % 2 == 0) n_checked += use_in_parts(store, source, leases, errors_happen);
    while (!leases.empty()) {
      const auto n_ready = store.wait_any(leases);
      if (!n_ready.has_value()) {
        EXPECT_TRUE(errors_happen) << n_ready.error().message;
        leases.clear();
        break;
      }
      for (size_t i = 0; i < *n_ready; ++i) {
        EXPECT_TRUE(holds_expert(store, source, leases[i]));
        ++n_checked;
      }
      leases.erase(leases.begin(), leases.begin() + static_cast<ptrdiff_t>(*n_ready));
    }
  }
  return n_checked;
}

int run_threads(ExpertStore& store, const FakeSource& source, int n_round, bool errors_happen) {
  std::atomic<int> n_checked = 0;
  std::vector<std::thread> threads;
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    threads.emplace_back(
        [&, seed] { n_checked += visit_at_random(store, source, seed, n_round, errors_happen); });
  }
  for (std::thread& thread : threads) thread.join();
  return n_checked;
}

class ExpertStoreStress : public ::testing::TestWithParam<Case> {};

TEST_P(ExpertStoreStress, WhatIsReadyIsAlwaysTheExpertsOwnBytes) {
  const Case& c = GetParam();
  const FakeSource source(c.model);
  const auto disk = std::make_shared<FakeDisk>();
  source.add_to(*disk);
  disk->randomise(99, c.short_percent, c.error_percent, c.damage_percent);
  disk->run_by_itself();
  const bool errors_win = c.error_percent > 20;
  ExpertStoreOptions options{.read_attempts = errors_win ? 2 : 10, .read_bytes = 4096, .clock = disk.get()};
  options.arena_bytes = arena_for(source, c.alignment, c.model, c.n_slot);
  auto store = ExpertStore::create(source, std::make_unique<FakeReader>(disk, 8, c.alignment), options);
  ASSERT_TRUE(store.has_value()) << store.error().message;
  EXPECT_GT(run_threads(**store, source, 400, errors_win), errors_win ? 0 : 800);

  const ExpertStoreStats stats = (*store)->stats();
  EXPECT_EQ(stats.demands, stats.hits + stats.late_hits + stats.misses);
  EXPECT_GT(stats.evictions, 0U);
  if (c.short_percent > 0) {
    EXPECT_GT(stats.read_retries, 0U);
  }
}

TEST_P(ExpertStoreStress, WhatIsReadyIsRightWhileTheArenaGrowsAndShrinks) {
  const Case& c = GetParam();
  const FakeSource source(c.model);
  const auto disk = std::make_shared<FakeDisk>();
  source.add_to(*disk);
  disk->randomise(98, c.short_percent, c.error_percent, c.damage_percent);
  const bool errors_win = c.error_percent > 20;
  ExpertStoreOptions options{
      .read_attempts = errors_win ? 2 : 10, .read_bytes = 4096, .fill = ExpertStoreOptions::Fill::kAtOnce};
  const uint64_t least = ExpertStore::min_arena_bytes(source, c.alignment);
  const uint64_t most = ExpertStore::max_arena_bytes(source, c.alignment);
  options.arena_bytes = least;
  options.max_arena_bytes = most;
  auto store = ExpertStore::create(source, std::make_unique<FakeReader>(disk, 8, c.alignment), options);
  ASSERT_TRUE(store.has_value()) << store.error().message;
  std::atomic<bool> done = false;
  std::thread resizer([&] {
    std::mt19937_64 random(5);
    while (!done) {
      const uint64_t wanted = least + random() % (most - least + 1);
      EXPECT_LE((*store)->resize(wanted), wanted);
    }
  });
  EXPECT_GT(run_threads(**store, source, 400, errors_win), errors_win ? 0 : 800);
  done = true;
  resizer.join();
  EXPECT_GT((*store)->stats().resizes, 0U);
  EXPECT_EQ((*store)->resize(least), least);
  EXPECT_LE((*store)->stats().resident, (*store)->stats().n_slot);
}

INSTANTIATE_TEST_SUITE_P(
    Stores, ExpertStoreStress,
    ::testing::Values(
        Case{"ample",
             {.n_layer = 5, .n_dense = 1, .slice_bytes = {600, 700, 1300}, .first_offset = 77},
             20,
             kSector,
             0,
             0},
        Case{"short_reads", {.n_layer = 4, .slice_bytes = {5000, 5000, 9000}}, 12, kSector, 15, 0},
        Case{"small_alignment",
             {.n_layer = 4, .slice_bytes = {1204, 804, 3000}, .first_offset = 4},
             9,
             kDword,
             10,
             0},
        Case{"buffered", {.n_layer = 4, .slice_bytes = {601, 701, 1301}, .packed = true}, 9, {}, 10, 0},
        Case{"two_classes", {.n_layer = 6, .larger_from = 3, .larger_by = 512}, 14, kSector, 10, 0},
        Case{"errors_that_win", {.n_layer = 4, .slice_bytes = {5000, 600, 700}}, 8, kSector, 10, 40},
        Case{"damage",
             {.n_layer = 4, .slice_bytes = {4096, 4096, 8192}, .joined = true, .checksums = true},
             8,
             kSector,
             5,
             0,
             5},
        Case{"damage_in_slices",
             {.n_layer = 4, .slice_bytes = {5120, 4608, 9216}, .checksums = true},
             8,
             kSector,
             5,
             5,
             4},
        Case{"damage_across_blocks",
             {.n_layer = 4, .slice_bytes = {601, 701, 1301}, .packed = true, .checksums = true},
             9,
             kDword,
             0,
             0,
             5},
        Case{"damage_that_wins",
             {.n_layer = 4, .slice_bytes = {4096, 4096, 8192}, .joined = true, .checksums = true},
             8,
             kSector,
             5,
             25,
             30},
        Case{"minimum", {.n_layer = 6, .slice_bytes = {600, 700, 1300}}, 0, kSector, 10, 0}),
    [](const auto& param) { return param.param.name; });

struct Kind {
  const char* name;
  ReaderKind kind;
  bool direct;
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }
class ExpertStoreOnRealFiles : public ::testing::TestWithParam<Kind> {};

TEST_P(ExpertStoreOnRealFiles, WhatIsReadyIsAlwaysTheExpertsOwnBytes) {
  const TemporaryFolder folder;
  // Half a page out of step from expert to expert, and the file ends in the middle of a block.
  const FakeModel model{.n_layer = 3, .slice_bytes = {30'000, 30'000, 62'048}, .first_offset = 96};
  const FakeSource source(model, folder.path());
  source.write_files();
  auto reader = make_reader({.kind = GetParam().kind, .depth = 8, .direct = GetParam().direct});
  if (!reader.has_value()) GTEST_SKIP() << reader.error().message;
  ExpertStoreOptions options{.read_bytes = 16'384};
  options.arena_bytes =
      ExpertStore::max_arena_bytes(source, {.offset_bytes = 4096, .memory_bytes = 4096}) / 3;
  auto store = ExpertStore::create(source, std::move(*reader), options);
  ASSERT_TRUE(store.has_value()) << store.error().message;
  EXPECT_GT(run_threads(**store, source, 60, false), 60);
}

INSTANTIATE_TEST_SUITE_P(Readers, ExpertStoreOnRealFiles,
                         ::testing::Values(Kind{"uring_direct", ReaderKind::kIoUring, true},
                                           Kind{"uring_buffered", ReaderKind::kIoUring, false},
                                           Kind{"pread_direct", ReaderKind::kPread, true},
                                           Kind{"pread_buffered", ReaderKind::kPread, false}),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace odmoe
