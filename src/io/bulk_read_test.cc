#include "io/bulk_read.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <thread>

#include "base/aligned_buffer.h"
#include "base/units.h"
#include "io/fake_reader.h"
#include "io/testing.h"

namespace odmoe {
namespace {

constexpr ReadAlignment kDirect{.offset_bytes = 512, .memory_bytes = 512};

class BulkRead : public ::testing::Test {
 protected:
  explicit BulkRead(uint32_t depth = 8) : disk_(std::make_shared<FakeDisk>()) {
    disk_->add("weights.gguf", pattern(kBytes, 1));
    reader_ = std::make_unique<FakeReader>(disk_, depth, kDirect);
    EXPECT_TRUE(reader_->add_file("weights.gguf").has_value());
  }

  static constexpr uint64_t kBytes = 300'001;
  std::shared_ptr<FakeDisk> disk_;
  std::unique_ptr<FakeReader> reader_;
};

void expect_filled(const BulkRange& range, uint64_t seed) {
  for (uint64_t i = 0; i < range.destination.size(); ++i) {
    ASSERT_EQ(range.destination[i], pattern_byte(seed, range.offset + i))
        << "byte " << i << " of " << range.offset;
  }
}

TEST_F(BulkRead, FillsRangesAtAnyByteThroughShortReadsAndErrors) {
  disk_->randomise(7, 30, 10);
  auto memory = AlignedBuffer::allocate(2 * kMiB).value();
  std::mt19937 random(5);
  for (const uint32_t piece : {512U, 5000U, 1U << 20U}) {
    std::vector<BulkRange> ranges;
    uint64_t used = 0;
    for (int i = 0; i < 12; ++i) {
      const uint64_t offset = i == 0 ? 0 : random() % kBytes;
      const uint64_t bytes = i == 0 ? kBytes : i == 1 ? 0 : random() % (kBytes - offset);
      used += random() % 3;  // destinations of any alignment
      if (used + bytes > memory.size()) break;
      ranges.push_back({.file = 0, .offset = offset, .destination = memory.span().subspan(used, bytes)});
      used += bytes;
    }
    const auto status =
        bulk_read(*reader_, ranges, {.piece_bytes = piece, .max_bounce_bytes = 64 * 1024, .attempts = 50});
    ASSERT_TRUE(status.has_value()) << status.error().message;
    for (const BulkRange& range : ranges) expect_filled(range, 1);
    EXPECT_EQ(reader_->in_flight(), 0U);
  }
}

TEST_F(BulkRead, TellsOfEveryRangeOnceWhenAllOfItIsThere) {
  disk_->randomise(11, 30, 10);
  auto memory = AlignedBuffer::allocate(kMiB).value();
  std::vector<BulkRange> ranges;
  for (uint64_t i = 0, used = 0; i < 9; ++i) {
    const uint64_t bytes = i * 5003;
    ranges.push_back({.file = 0, .offset = 7001 * i, .destination = memory.span().subspan(used, bytes)});
    used += bytes;
  }
  std::vector<int> told(ranges.size());
  BulkReadOptions options{.piece_bytes = 512, .max_bounce_bytes = 64 * 1024, .attempts = 50};
  options.range_done = [&](size_t i) {
    ++told[i];
    expect_filled(ranges[i], 1);
  };
  ASSERT_TRUE(bulk_read(*reader_, ranges, options).has_value());
  EXPECT_EQ(told[0], 0) << "it has no bytes";
  EXPECT_EQ(std::ranges::count(told, 1), std::ssize(ranges) - 1);
}

TEST_F(BulkRead, ReadsStraightIntoMemoryThatIsAlignedLikeTheFile) {
  auto memory = AlignedBuffer::allocate(64 * 1024).value();
  const BulkRange range{.file = 0, .offset = 1024, .destination = memory.span().first(16 * 1024)};
  // Less bounce memory than one piece: only direct reads can be this large.
  ASSERT_TRUE(bulk_read(*reader_, std::span(&range, 1), {.piece_bytes = 4096, .max_bounce_bytes = 1 << 20})
                  .has_value());
  expect_filled(range, 1);
  EXPECT_EQ(disk_->bytes_read(), 16U * 1024);
  EXPECT_EQ(disk_->n_read(), 4U);
}

TEST_F(BulkRead, KeepsTheReadersDepthBusy) {
  disk_->hold();
  std::vector<std::byte> memory(kBytes);
  const BulkRange range{.file = 0, .offset = 1, .destination = std::span(memory).first(100'000)};
  std::thread waiter(
      [&] { EXPECT_TRUE(bulk_read(*reader_, std::span(&range, 1), {.piece_bytes = 4096}).has_value()); });
  disk_->wait_for_reads(8);
  EXPECT_EQ(disk_->in_flight().size(), 8U);
  disk_->resume();
  waiter.join();
  expect_filled(range, 1);
}

TEST_F(BulkRead, BoundsItsBounceMemory) {
  std::vector<std::byte> memory(kBytes);
  const BulkRange range{.file = 0, .offset = 1, .destination = std::span(memory).first(100'000)};
  ASSERT_TRUE(bulk_read(*reader_, std::span(&range, 1), {.piece_bytes = 1 << 20, .max_bounce_bytes = 2048})
                  .has_value());
  expect_filled(range, 1);
  for (const auto& read : disk_->reads()) EXPECT_LE(read.bytes, 2048U);
}

TEST_F(BulkRead, AReadThatKeepsFailingNamesFileAndOffset) {
  disk_->inject({.begin = 8192, .end = 8193, .error = EIO, .times = -1});
  std::vector<std::byte> memory(kBytes);
  const BulkRange range{.file = 0, .offset = 0, .destination = memory};
  const auto status = bulk_read(*reader_, std::span(&range, 1), {.piece_bytes = 4096, .attempts = 3});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kIo);
  EXPECT_NE(status.error().message.find("weights.gguf at byte 8192"), std::string::npos)
      << status.error().message;
  EXPECT_NE(status.error().message.find("3 times"), std::string::npos);
  EXPECT_EQ(reader_->in_flight(), 0U);
}

TEST_F(BulkRead, ARangeBeyondTheFileIsABadFileBeforeAnythingIsRead) {
  std::vector<std::byte> memory(10);
  for (const uint64_t offset : {kBytes - 9, kBytes + 1, ~uint64_t{0}}) {
    const BulkRange range{.file = 0, .offset = offset, .destination = memory};
    const auto status = bulk_read(*reader_, std::span(&range, 1));
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
    EXPECT_NE(status.error().message.find("weights.gguf"), std::string::npos);
  }
  EXPECT_EQ(disk_->n_read(), 0U);
}

TEST_F(BulkRead, AFileTruncatedAfterOpeningIsABadFile) {
  disk_->truncate("weights.gguf", 150'000);
  std::vector<std::byte> memory(kBytes);
  const BulkRange range{.file = 0, .offset = 0, .destination = memory};
  const auto status = bulk_read(*reader_, std::span(&range, 1), {.piece_bytes = 65536});
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
  EXPECT_NE(status.error().message.find("weights.gguf ends before byte"), std::string::npos)
      << status.error().message;
}

TEST_F(BulkRead, ProgressReachesTheTotalAndCanInterrupt) {
  std::vector<std::byte> memory(kBytes);
  const BulkRange range{.file = 0, .offset = 3, .destination = std::span(memory).first(200'000)};
  uint64_t last = 0;
  BulkReadOptions options{.piece_bytes = 4096, .progress = [&](uint64_t done) {
                            EXPECT_GE(done, last);
                            last = done;
                            return true;
                          }};
  ASSERT_TRUE(bulk_read(*reader_, std::span(&range, 1), options).has_value());
  EXPECT_EQ(last, 200'000U);

  options.progress = [](uint64_t done) { return done < 50'000; };
  const auto status = bulk_read(*reader_, std::span(&range, 1), options);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kInterrupted);
  EXPECT_EQ(reader_->in_flight(), 0U);
}

TEST(BulkReadOfRealFiles, GivesTheSameBytesThroughEveryReader) {
  const TemporaryFolder folder;
  const auto path = folder.write("weights", pattern(3 * kMiB + 123, 9));
  for (const ReaderKind kind : {ReaderKind::kIoUring, ReaderKind::kPread}) {
    for (const bool direct : {true, false}) {
      auto reader = make_reader({.kind = kind, .depth = 4, .direct = direct});
      if (!reader.has_value()) continue;
      ASSERT_TRUE((*reader)->add_file(path).has_value());
      std::vector<std::byte> memory(3 * kMiB + 123);
      const std::array ranges = {
          BulkRange{.file = 0, .offset = 0, .destination = std::span(memory).first(1'000'003)},
          BulkRange{.file = 0, .offset = 1'000'003, .destination = std::span(memory).subspan(1'000'003)}};
      const auto status = bulk_read(**reader, ranges, {.piece_bytes = 256 * 1024});
      ASSERT_TRUE(status.has_value()) << status.error().message;
      for (const BulkRange& range : ranges) expect_filled(range, 9);
    }
  }
}

}  // namespace
}  // namespace odmoe
