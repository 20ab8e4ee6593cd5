// The drive's bandwidth, and how much of it the expert store gets: demand reads of whole experts in the shape
// of an untouched GGUF (three slices that lie apart) against reads of the same file from front to back.
//
//   odmoe_store_bench [--benchmark_filter=...]      data goes to a file of 1 GiB in TMPDIR
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/units.h"
#include "format/expert_source.h"
#include "io/async_reader.h"
#include "store/expert_store.h"

namespace odmoe {
namespace {

constexpr uint64_t kFileBytes = kGiB;
constexpr int kExpertsPerToken = 8;

// Made at first use, removed at exit.
class DataFile {
 public:
  static const std::filesystem::path& path() {
    static const DataFile file;
    return file.path_;
  }

 private:
  DataFile()
      : path_(std::filesystem::temp_directory_path() / ("odmoe_store_bench_" + std::to_string(getpid()))) {
    std::ofstream out(path_, std::ios::binary);
    std::vector<char> block(kMiB);
    uint64_t state = 1;  // bytes that no drive can compress away
    for (uint64_t written = 0; written < kFileBytes; written += block.size()) {
      for (char& byte : block)
        byte = static_cast<char>((state = state * 6364136223846793005U + 1442695040888963407U) >> 56U);
      out.write(block.data(), static_cast<std::streamsize>(block.size()));
    }
    out.close();
    sync();
  }
  ~DataFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  std::filesystem::path path_;
};

// Layers of experts cut out of the file: stacks of gate, up and down, as in a GGUF, 96 bytes out of step with
// the blocks of the drive.
class BenchSource final : public ExpertSource {
 public:
  explicit BenchSource(uint64_t expert_bytes) : files_{DataFile::path()} {
    const uint64_t slice = round_down(expert_bytes / 3, 4096);
    layout_.slices = {{slice, "gate"}, {slice, "up"}, {slice, "down"}};
    layout_.gate = {.slice = 0, .offset = 0, .bytes = slice};
    layout_.up = {.slice = 1, .offset = 0, .bytes = slice};
    layout_.down = {.slice = 2, .offset = 0, .bytes = slice};
    n_layer_ = static_cast<int>((kFileBytes - 96) / (layout_.bytes() * kExperts));
  }
  int n_layer() const override { return n_layer_; }
  int n_expert(int /*layer*/) const override { return kExperts; }
  int n_expert_used() const override { return kExpertsPerToken; }
  const RecordLayout& layout(int /*layer*/) const override { return layout_; }
  SliceLocation locate(ExpertKey key, int slice) const override {
    const uint64_t stack = static_cast<uint64_t>(key.layer) * 3 + static_cast<uint64_t>(slice);
    const uint64_t bytes = layout_.slices[0].bytes;
    return {.file = 0, .offset = 96 + (stack * kExperts + static_cast<uint64_t>(key.expert)) * bytes};
  }
  const std::vector<std::filesystem::path>& files() const override { return files_; }

 private:
  static constexpr int kExperts = 64;
  std::vector<std::filesystem::path> files_;
  RecordLayout layout_;
  int n_layer_ = 0;
};

ReaderOptions reader_options(const benchmark::State& state) {
  return {.kind = state.range(0) == 0 ? ReaderKind::kIoUring : ReaderKind::kPread,
          .depth = static_cast<uint32_t>(state.range(1))};
}

// Front to back, and nothing else: what the drive can do.  The size of a read and the pages of the memory
// that it lands in both count, so the best of these is the drive's bandwidth.
void sequential(benchmark::State& state) {
  auto reader = make_reader(reader_options(state));
  if (!reader.has_value() || !(*reader)->add_file(DataFile::path()).has_value()) {
    state.SkipWithError("no such reader here");
    return;
  }
  const uint64_t bytes = static_cast<uint64_t>(state.range(2)) * kKiB;
  const auto buffer = AlignedBuffer::allocate((*reader)->depth() * bytes, state.range(3) != 0).value();
  std::array<ReadCompletion, 1> done{};
  std::vector<uint64_t> free_buffers((*reader)->depth());
  std::iota(free_buffers.begin(), free_buffers.end(), 0);
  uint64_t offset = 0;
  while (state.KeepRunning()) {
    // Keep the depth full, and take one completion at a time: one read for each iteration.
    while (!free_buffers.empty()) {
      const uint64_t i = free_buffers.back();
      free_buffers.pop_back();
      (*reader)->submit({.id = i,
                         .file = 0,
                         .offset = offset,
                         .bytes = static_cast<uint32_t>(bytes),
                         .destination = buffer.data() + i * bytes});
      offset = (offset + bytes) % kFileBytes;
    }
    (*reader)->wait(done, std::nullopt);
    if (done[0].result != static_cast<int64_t>(bytes)) state.SkipWithError("a read failed or was short");
    free_buffers.push_back(done[0].id);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}

// One token after another, eight experts of each layer, none of them in memory.
void demand(benchmark::State& state) {
  const BenchSource source(static_cast<uint64_t>(state.range(2)) * kKiB);
  auto reader = make_reader(reader_options(state));
  if (!reader.has_value()) {
    state.SkipWithError("no such reader here");
    return;
  }
  ExpertStoreOptions options;
  options.arena_bytes = ExpertStore::min_arena_bytes(source, {.offset_bytes = 4096, .memory_bytes = 4096});
  const auto store = ExpertStore::create(source, std::move(*reader), options).value();
  std::vector<ExpertLease> leases;
  std::array<int32_t, kExpertsPerToken> experts{};
  int step = 0;
  uint64_t bytes = 0;
  while (state.KeepRunning()) {
    for (int i = 0; i < kExpertsPerToken; ++i) experts[static_cast<size_t>(i)] = (step * 29 + i * 7) % 64;
    store->lease(step % source.n_layer(), experts, leases);
    if (!store->wait_all(leases).has_value()) state.SkipWithError("a read failed");
    bytes += leases.size() * source.layout(0).bytes();
    leases.clear();
    ++step;
  }
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
  state.counters["hits"] = static_cast<double>(store->stats().hits);
}

// A lease, wait and release of eight experts that are in memory: what the store itself costs.
void resident(benchmark::State& state) {
  const BenchSource source(300 * kKiB);
  auto reader = make_reader({});
  ExpertStoreOptions options;
  options.arena_bytes =
      8 * ExpertStore::min_arena_bytes(source, {.offset_bytes = 4096, .memory_bytes = 4096});
  const auto store = ExpertStore::create(source, std::move(*reader), options).value();
  std::vector<ExpertLease> leases;
  const std::array<int32_t, kExpertsPerToken> experts = {3, 14, 15, 9, 26, 5, 35, 58};
  while (state.KeepRunning()) {
    store->lease(0, experts, leases);
    if (!store->wait_all(leases).has_value()) state.SkipWithError("a read failed");
    leases.clear();
  }
}

BENCHMARK(sequential)
    ->ArgNames({"pread", "depth", "KiB", "huge_pages"})
    ->ArgsProduct({{0, 1}, {1, 4, 16, 32}, {512, 1024}, {0, 1}})
    ->UseRealTime();
BENCHMARK(demand)
    ->ArgNames({"pread", "depth", "KiB"})
    ->ArgsProduct({{0, 1}, {1, 4, 16, 32}, {1024, 3072}})
    ->UseRealTime();
BENCHMARK(resident);

}  // namespace
}  // namespace odmoe

BENCHMARK_MAIN();
