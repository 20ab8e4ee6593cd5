// A sound file, damaged in every place where a header can lie: the result is a clean error or a file that
// keeps all its promises.  Run with the sanitizers, this is what says that foreign bytes end in GgufFile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "format/gguf_header.h"
#include "gguf_exercise.h"
#include "small_model.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using testing::GgufWriter;
using ::testing::HasSubstr;
using testing::small_model;
using testing::SmallModelOptions;
using testing::TempDir;

// Whether the bytes were taken for a sound file.
bool survives(std::span<const std::byte> bytes, uint64_t file_bytes) {
  const auto file = GgufFile::parse(bytes, file_bytes);
  testing::exercise_result(file);
  if (file.has_value()) testing::exercise(**file);
  return file.has_value();
}

// Of the demo models' size: the vocabulary and the number of tensors are what they have.
GgufWriter demo_size_model() {
  return small_model({.n_layer = 8, .n_expert = 64, .n_vocab = 24, .n_embd = 128, .n_ff_exp = 64});
}

TEST(DamagedGguf, TheUndamagedModelIsSound) {
  const auto bytes = demo_size_model().bytes();
  EXPECT_GT(bytes.size(), 10U << 20U);
  EXPECT_TRUE(survives(bytes, bytes.size()));
}

TEST(DamagedGguf, AFileCutAtAnyOf50PlacesIsACleanError) {
  const TempDir dir;
  const auto bytes = demo_size_model().bytes();
  const auto path = dir.write("m.gguf", bytes);
  for (uint64_t i = 50; i-- > 0;) {
    const uint64_t length = bytes.size() * i / 50;
    std::filesystem::resize_file(path, length);
    const auto file = GgufFile::open(path);
    ASSERT_FALSE(file.has_value()) << length;
    EXPECT_EQ(file.error().kind, ErrorKind::kBadFile);
    EXPECT_THAT(file.error().message, HasSubstr("download it again"));
    testing::must_be_one_line(file.error());
  }
}

TEST(DamagedGguf, AHeaderCutAtEveryByteIsACleanError) {
  const GgufWriter writer = small_model({});
  const auto bytes = writer.bytes();
  for (uint64_t length = 0; length < writer.header_bytes(); ++length) {
    // Into memory of exactly that size, so that a sanitizer sees each byte read beyond it.
    const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_FALSE(survives(cut, length)) << length;
    EXPECT_FALSE(survives(cut, bytes.size())) << length;
  }
}

TEST(DamagedGguf, EveryFieldWithEveryExtremeIsAnErrorOrASaneFile) {
  for (const SmallModelOptions& options :
       {SmallModelOptions{}, SmallModelOptions{.version = 2, .merge_gate_up = true}}) {
    const GgufWriter writer = small_model(options);
    const auto sound = writer.bytes();
    int n_error = 0;
    int n_field = 0;
    for (const GgufWriter::Field& field : writer.fields()) {
      ++n_field;
      bool any_error = false;
      const auto try_bytes = [&](auto&& change) {
        std::vector<std::byte> damaged = sound;
        change(std::span(damaged).subspan(field.offset, field.bytes));
        any_error |= !survives(damaged, damaged.size());
      };
      // Type numbers of both enums, lengths, dimensions, offsets: small numbers and those next to limits.
      for (const uint64_t extreme : {uint64_t{0},          uint64_t{1},          uint64_t{2},
                                     uint64_t{4},          uint64_t{5},          uint64_t{8},
                                     uint64_t{9},          uint64_t{10},         uint64_t{12},
                                     uint64_t{13},         uint64_t{31},         uint64_t{32},
                                     uint64_t{42},         uint64_t{43},         uint64_t{127},
                                     uint64_t{128},        uint64_t{255},        uint64_t{65535},
                                     uint64_t{65536},      uint64_t{0x7FFFFFFF}, uint64_t{0x80000000},
                                     uint64_t{0xFFFFFFFF}, uint64_t{1} << 32U,   uint64_t{1} << 48U,
                                     uint64_t{1} << 61U,   uint64_t{1} << 62U,   uint64_t{0x7FFFFFFFFFFFFFFF},
                                     uint64_t{1} << 63U,   ~uint64_t{31},        ~uint64_t{0}}) {
        try_bytes([&](std::span<std::byte> bytes) {
          std::memcpy(bytes.data(), &extreme, std::min(bytes.size(), sizeof(extreme)));
        });
      }
      for (uint64_t i = 0; i < std::min<uint64_t>(field.bytes, 8); ++i) {
        for (unsigned bit = 0; bit < 8; ++bit) {
          try_bytes([&](std::span<std::byte> bytes) { bytes[i] ^= std::byte{1} << bit; });
        }
      }
      try_bytes([](std::span<std::byte> bytes) {
        for (std::byte& byte : bytes) byte = ~byte;
      });
      n_error += any_error ? 1 : 0;
    }
    // Damage is noticed wherever the format itself can tell; free text and plain values cannot be judged
    // here.
    EXPECT_GT(n_field, 150);
    EXPECT_GT(n_error, n_field / 2);
  }
}

// The number behind the type: every value is read once as each other type.
TEST(DamagedGguf, EveryValueUnderEveryTypeNumberIsAnErrorOrASaneFile) {
  const GgufWriter writer = small_model({});
  const auto sound = writer.bytes();
  int n_sane = 0;
  for (const GgufWriter::Field& field : writer.fields()) {
    if (!field.what.ends_with(": type") && !field.what.ends_with(": element type")) continue;
    for (uint32_t type = 0; type < 64; ++type) {
      std::vector<std::byte> damaged = sound;
      std::memcpy(damaged.data() + field.offset, &type, sizeof(type));
      n_sane += survives(damaged, damaged.size()) ? 1 : 0;
    }
  }
  EXPECT_GT(n_sane, 50);  // types of the same size are not damage that can be seen
}

}  // namespace
}  // namespace odmoe
