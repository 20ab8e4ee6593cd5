#include "server/saved_state.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/checksum.h"

namespace odmoe::server {
namespace {

class SavedStateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::path(::testing::TempDir()) /
            ::testing::UnitTest::GetInstance()->current_test_info()->name();
    state_.resize(1000);
    for (size_t i = 0; i < state_.size(); ++i) state_[i] = static_cast<std::byte>(i * 7);
    header_ = {.identity = "a model",
               .owner = "somebody",
               .tokens = {5, 6, 7, 8, 9},
               .stretches = {{.end = 3}, {.end = 5, .singly = true}},
               .state_bytes = state_.size(),
               .state_checksum = Checksum::of(state_)};
    bytes_ = encode_header(header_);
    bytes_.insert(bytes_.end(), state_.begin(), state_.end());
  }
  void TearDown() override { std::filesystem::remove(path_); }
  void write() const {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
  }
  std::filesystem::path path_;
  std::vector<std::byte> state_, bytes_;
  SavedStateHeader header_;
};

TEST_F(SavedStateTest, WhatIsWrittenIsReadAgain) {
  write();
  const auto header = read_header(path_);
  ASSERT_TRUE(header.has_value()) << header.error().message;
  EXPECT_EQ(header->identity, header_.identity);
  EXPECT_EQ(header->owner, header_.owner);
  EXPECT_EQ(header->tokens, header_.tokens);
  EXPECT_EQ(header->stretches, header_.stretches);
  EXPECT_EQ(header->file_bytes(), bytes_.size());
  std::vector<std::byte> state(header->state_bytes);
  ASSERT_TRUE(read_state(path_, *header, state).has_value());
  EXPECT_EQ(state, state_);
}

TEST_F(SavedStateTest, AnyChangedByteIsNoticed) {
  for (size_t i = 0; i < bytes_.size(); ++i) {
    bytes_[i] ^= std::byte{16};
    const auto header = parse_header(bytes_, bytes_.size(), "it");
    if (i < header_.state_offset()) {
      ASSERT_FALSE(header.has_value()) << "byte " << i;
      EXPECT_EQ(header.error().kind, ErrorKind::kBadFile);
    } else if (i % 100 == 0) {
      ASSERT_TRUE(header.has_value());
      write();
      std::vector<std::byte> state(header->state_bytes);
      const Status status = read_state(path_, *header, state);
      ASSERT_FALSE(status.has_value()) << "byte " << i;
      EXPECT_EQ(status.error().kind, ErrorKind::kBadFile);
    }
    bytes_[i] ^= std::byte{16};
  }
}

TEST_F(SavedStateTest, ADivisionThatIsNoneIsDamage) {
  for (const std::vector<Division::Stretch>& stretches : std::vector<std::vector<Division::Stretch>>{
           {{.end = 6}},
           {{.end = 0}},
           {{.end = 3}, {.end = 3, .singly = true}},
           {{.end = 3, .singly = true}, {.end = 4, .singly = true}}}) {
    header_.stretches = stretches;
    const std::vector<std::byte> bytes = encode_header(header_);
    const auto header = parse_header(bytes, header_.file_bytes(), "it");
    ASSERT_FALSE(header.has_value());
    EXPECT_EQ(header.error().kind, ErrorKind::kBadFile);
  }
}

TEST_F(SavedStateTest, OfEarlierVersionsNoDivisionIsKnown) {
  header_.stretches = {};
  std::vector<std::byte> bytes = encode_header(header_);
  bytes[7] = std::byte{'1'};
  const uint32_t whole = 4;
  std::memcpy(bytes.data() + 16, &whole, sizeof(whole));
  Checksum checksum;
  checksum.add(std::span(bytes).first(40));
  checksum.add(std::span(bytes).subspan(48));
  const uint64_t sum = checksum.value();
  std::memcpy(bytes.data() + 40, &sum, sizeof(sum));
  EXPECT_TRUE(is_saved_state(bytes));
  const auto header = parse_header(bytes, header_.file_bytes(), "it");
  ASSERT_TRUE(header.has_value()) << header.error().message;
  EXPECT_EQ(header->tokens, header_.tokens);
  EXPECT_TRUE(header->stretches.empty());
  EXPECT_EQ(header->file_bytes(), header_.file_bytes());
}

TEST_F(SavedStateTest, AFileThatIsTooShortOrTooLongIsDamaged) {
  const std::vector<std::byte> whole = bytes_;
  for (const size_t size : {0UZ, 7UZ, 8UZ, 47UZ, 48UZ, 60UZ, 74UZ, 75UZ, 500UZ, whole.size() - 1}) {
    bytes_.assign(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    write();
    EXPECT_FALSE(read_header(path_).has_value()) << size << " bytes";
  }
  bytes_ = whole;
  bytes_.push_back(std::byte{0});
  write();
  EXPECT_FALSE(read_header(path_).has_value());
}

TEST_F(SavedStateTest, AnotherKindOfFileIsToldFromADamagedOne) {
  EXPECT_TRUE(is_saved_state(bytes_));
  std::memcpy(bytes_.data(), "GGUF", 4);
  EXPECT_FALSE(is_saved_state(bytes_));
  const auto header = parse_header(bytes_, bytes_.size(), "it");
  ASSERT_FALSE(header.has_value());
  EXPECT_EQ(header.error().message, "it: this is not a saved KV cache");
}

TEST_F(SavedStateTest, AFileThatIsNotThereIsAnIoError) {
  const auto header = read_header(path_);
  ASSERT_FALSE(header.has_value());
  EXPECT_EQ(header.error().kind, ErrorKind::kIo);
}

}  // namespace
}  // namespace odmoe::server
