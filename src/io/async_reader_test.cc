// What every reader promises, the same for all of them.
#include "io/async_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/units.h"
#include "io/fake_reader.h"
#include "io/testing.h"

namespace odmoe {
namespace {

constexpr std::chrono::seconds kDeadline{120};  // of what would hang

struct Kind {
  const char* name;
  ReaderKind kind;
  bool direct;
  bool fake = false;
};
void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }

class EveryReader : public ::testing::TestWithParam<Kind> {
 protected:
  void make(uint32_t depth = 8) {
    if (GetParam().fake) {
      reader_ = std::make_unique<FakeReader>(std::make_shared<FakeDisk>(), depth,
                                             ReadAlignment{.offset_bytes = 512, .memory_bytes = 512});
      return;
    }
    auto reader = make_reader({.kind = GetParam().kind, .depth = depth, .direct = GetParam().direct});
    if (!reader.has_value() && reader.error().kind == ErrorKind::kUnsupported)
      GTEST_SKIP() << reader.error().message;
    ASSERT_TRUE(reader.has_value()) << reader.error().message;
    reader_ = std::move(*reader);
  }

  // Adds a file of `bytes` patterned bytes.
  int add(uint64_t bytes, uint64_t seed) {
    const auto path = folder_.write("file" + std::to_string(seed), pattern(bytes, seed));
    const auto file = reader_->add_file(path);
    EXPECT_TRUE(file.has_value());
    return file.value_or(-1);
  }

  // Waits until nothing is in flight; results by id.
  std::map<uint64_t, int64_t> drain() {
    std::map<uint64_t, int64_t> results;
    std::array<ReadCompletion, 3> out{};
    const auto end = std::chrono::steady_clock::now() + kDeadline;
    while (reader_->in_flight() > 0) {
      const size_t count = reader_->wait(out, kDeadline);
      if (count == 0 && std::chrono::steady_clock::now() > end) {
        ADD_FAILURE() << reader_->in_flight() << " reads did not end";
        break;
      }
      for (size_t i = 0; i < count; ++i) results[out[i].id] = out[i].result;
    }
    return results;
  }

  uint64_t unit() const {
    return std::max(reader_->alignment().offset_bytes, reader_->alignment().memory_bytes);
  }

  TemporaryFolder folder_;
  AlignedBuffer buffer_ = AlignedBuffer::allocate(16 * kMiB).value();
  std::unique_ptr<AsyncReader> reader_;
};

TEST_P(EveryReader, BringsTheBytesOfEveryFileWhateverTheSize) {
  make();
  if (!reader_) return;
  const int first = add(kMiB + 77, 1);
  const int second = add(300'000, 2);
  EXPECT_EQ(reader_->file_bytes(first), kMiB + 77);
  EXPECT_EQ(reader_->file_bytes(second), 300'000U);
  const uint64_t align = unit();
  struct Case {
    int file;
    uint64_t seed, size, offset, bytes;
  };
  const std::array cases = {
      Case{first, 1, kMiB + 77, 0, align},
      Case{first, 1, kMiB + 77, 3 * align, 17 * align},
      Case{second, 2, 300'000, align, 64 * align},
      Case{first, 1, kMiB + 77, round_down(kMiB, align), 4096},
  };
  std::byte* destination = buffer_.data();
  std::vector<std::byte*> destinations;
  for (uint64_t i = 0; i < cases.size(); ++i) {
    reader_->submit({.id = 100 + i,
                     .file = cases[i].file,
                     .offset = cases[i].offset,
                     .bytes = static_cast<uint32_t>(cases[i].bytes),
                     .destination = destination});
    destinations.push_back(destination);
    destination += round_up(cases[i].bytes, 4096);
  }
  const auto results = drain();
  ASSERT_EQ(results.size(), cases.size());
  for (uint64_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    const uint64_t expected = std::min(c.bytes, c.size - c.offset);
    ASSERT_EQ(results.at(100 + i), static_cast<int64_t>(expected)) << i;
    for (uint64_t j = 0; j < expected; ++j) {
      ASSERT_EQ(destinations[i][j], pattern_byte(c.seed, c.offset + j)) << i << " " << j;
    }
  }
}

TEST_P(EveryReader, AReadBeyondTheEndIsShortAndOneBehindItIsEmpty) {
  make();
  if (!reader_) return;
  const int file = add(10'000, 3);
  const uint64_t align = unit();
  const uint64_t last = round_down(9'999, align);
  reader_->submit({.id = 1,
                   .file = file,
                   .offset = last,
                   .bytes = static_cast<uint32_t>(round_up(8192, align)),
                   .destination = buffer_.data()});
  reader_->submit({.id = 2,
                   .file = file,
                   .offset = round_up(20'000, align),
                   .bytes = static_cast<uint32_t>(align),
                   .destination = buffer_.data() + kMiB});
  const auto results = drain();
  EXPECT_EQ(results.at(1), static_cast<int64_t>(10'000 - last));
  EXPECT_EQ(results.at(2), 0);
  EXPECT_EQ(buffer_.data()[9'999 - last], pattern_byte(3, 9'999));
}

TEST_P(EveryReader, KeepsAsManyInFlightAsItsDepthOverManyRounds) {
  make(4);
  if (!reader_) return;
  EXPECT_EQ(reader_->depth(), 4U);
  constexpr uint64_t kReads = 200;
  const int file = add(kReads * 4096, 4);
  const uint64_t align = unit();  // known once the file is open
  std::vector<int> seen(kReads);
  std::array<ReadCompletion, 2> out{};
  uint64_t next = 0;
  for (uint64_t done = 0; done < kReads;) {
    while (next < kReads && reader_->in_flight() < reader_->depth()) {
      reader_->submit({.id = next,
                       .file = file,
                       .offset = next * align,
                       .bytes = static_cast<uint32_t>(align),
                       .destination = buffer_.data() + next * align});
      ++next;
    }
    ASSERT_LE(reader_->in_flight(), 4U);
    const size_t count = reader_->wait(out, kDeadline);
    ASSERT_GT(count, 0U) << reader_->in_flight() << " reads did not end";
    for (size_t i = 0; i < count; ++i) {
      ++seen[out[i].id];
      EXPECT_EQ(out[i].result, static_cast<int64_t>(align));
    }
    done += count;
  }
  EXPECT_TRUE(std::ranges::all_of(seen, [](int times) { return times == 1; }));
  for (uint64_t i = 0; i < kReads * align; ++i) ASSERT_EQ(buffer_.data()[i], pattern_byte(4, i));
}

TEST_P(EveryReader, AWakeFromAnotherThreadEndsTheWait) {
  make();
  if (!reader_) return;
  for (int round = 0; round < 20; ++round) {
    std::thread other([this] { reader_->wake(); });
    std::array<ReadCompletion, 1> out{};
    EXPECT_EQ(reader_->wait(out, std::nullopt), 0U);
    other.join();
  }
}

TEST_P(EveryReader, AWakeBeforeTheWaitIsNotLost) {
  make();
  if (!reader_) return;
  reader_->wake();
  std::array<ReadCompletion, 1> out{};
  EXPECT_EQ(reader_->wait(out, std::nullopt), 0U);
}

TEST_P(EveryReader, AnIdleReaderTimesOut) {
  make();
  if (!reader_) return;
  std::array<ReadCompletion, 1> out{};
  EXPECT_EQ(reader_->wait(out, std::chrono::microseconds(0)), 0U);
  EXPECT_EQ(reader_->wait(out, std::chrono::microseconds(2000)), 0U);
}

TEST_P(EveryReader, PollingSeesAReadThroughToItsEnd) {
  make();
  if (!reader_) return;
  const int file = add(64 * kKiB, 5);
  reader_->submit({.id = 9, .file = file, .offset = 0, .bytes = 64 * kKiB, .destination = buffer_.data()});
  std::array<ReadCompletion, 1> out{};
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (reader_->wait(out, std::chrono::microseconds(0)) == 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "polling sees no read";
    std::this_thread::yield();
  }
  EXPECT_EQ(out[0].id, 9U);
  EXPECT_EQ(out[0].result, static_cast<int64_t>(64 * kKiB));
}

TEST_P(EveryReader, TheDestructorWaitsForWhatIsInFlight) {
  make(8);
  if (!reader_) return;
  const int file = add(8 * kMiB, 6);
  for (uint64_t i = 0; i < 8; ++i) {
    reader_->submit(
        {.id = i, .file = file, .offset = i * kMiB, .bytes = kMiB, .destination = buffer_.data() + i * kMiB});
  }
  reader_.reset();
  for (uint64_t i = 0; i < 8 * kMiB; i += 511) ASSERT_EQ(buffer_.data()[i], pattern_byte(6, i)) << i;
}

TEST_P(EveryReader, AFileThatShrinksAfterwardsGivesShortReadsNotWrongBytes) {
  make();
  if (!reader_) return;
  const int file = add(kMiB, 7);
  std::filesystem::resize_file(reader_->path(file), 100'000);
  EXPECT_EQ(reader_->file_bytes(file), kMiB);
  reader_->submit({.id = 1, .file = file, .offset = 0, .bytes = kMiB, .destination = buffer_.data()});
  EXPECT_EQ(drain().at(1), 100'000);
}

TEST_P(EveryReader, FilesThatCannotBeReadAreNamed) {
  make();
  if (!reader_) return;
  const auto missing = reader_->add_file(folder_.path() / "missing.gguf");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind, ErrorKind::kNotFound);
  EXPECT_NE(missing.error().message.find("missing.gguf"), std::string::npos);
  const auto folder = reader_->add_file(folder_.path());
  ASSERT_FALSE(folder.has_value());
  EXPECT_EQ(folder.error().kind, ErrorKind::kIo);
}

INSTANTIATE_TEST_SUITE_P(Readers, EveryReader,
                         ::testing::Values(Kind{"uring_direct", ReaderKind::kIoUring, true},
                                           Kind{"uring_buffered", ReaderKind::kIoUring, false},
                                           Kind{"pread_direct", ReaderKind::kPread, true},
                                           Kind{"pread_buffered", ReaderKind::kPread, false},
                                           Kind{"fake", ReaderKind::kAuto, false, true}),
                         [](const auto& param) { return param.param.name; });

// Only where a destination is not even mapped does every real reader fail the same way.
TEST(AsyncReader, AFailedReadReportsItsErrno) {
  const TemporaryFolder folder;
  const auto path = folder.write("file", pattern(8192));
  for (const ReaderKind kind : {ReaderKind::kIoUring, ReaderKind::kPread}) {
    auto reader = make_reader({.kind = kind, .direct = false});
    if (!reader.has_value()) continue;
    ASSERT_TRUE((*reader)->add_file(path).has_value());
    auto* const nowhere = reinterpret_cast<std::byte*>(uintptr_t{4096});
    (*reader)->submit({.id = 5, .file = 0, .offset = 0, .bytes = 4096, .destination = nowhere});
    std::array<ReadCompletion, 1> out{};
    ASSERT_EQ((*reader)->wait(out, std::nullopt), 1U);
    EXPECT_EQ(out[0].id, 5U);
    EXPECT_EQ(out[0].result, -EFAULT) << (*reader)->name();
  }
}

TEST(AsyncReader, ADepthOutOfRangeIsAUsageError) {
  for (const uint32_t depth : {0U, 1025U}) {
    const auto reader = make_reader({.depth = depth});
    ASSERT_FALSE(reader.has_value());
    EXPECT_EQ(reader.error().kind, ErrorKind::kUsage);
  }
}

TEST(AsyncReader, AutoAlwaysFindsAReader) {
  const auto reader = make_reader({});
  ASSERT_TRUE(reader.has_value());
  EXPECT_TRUE((*reader)->name() == "io_uring" || (*reader)->name() == "pread");
}

}  // namespace
}  // namespace odmoe
