// Against the reference implementation: the Python package safetensors (Debian: python3-safetensors).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>

#include "format/safetensors.h"
#include "temp_dir.h"

namespace odmoe {
namespace {

using testing::TempDir;

// What a command prints; its exit status goes to `status`.
std::string output_of(const std::string& command, int* status) {
  std::string text;
  std::FILE* pipe = popen(command.c_str(), "r");  // NOLINT(cert-env33-c): a command of the test's own
  if (pipe == nullptr) {
    *status = -1;
    return text;
  }
  std::array<char, 4096> buffer;
  while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) text.append(buffer.data(), n);
  *status = pclose(pipe);
  return text;
}

bool has_peer() {
  int status = 0;
  output_of("python3 -c 'import safetensors, numpy' 2>/dev/null", &status);
  return status == 0;
}

std::string peer(const std::string& what, const std::filesystem::path& path) {
  int status = 0;
  const std::string text = output_of(
      "python3 " ODMOE_SOURCE_DIR "/tests/tools/safetensors_peer.py " + what + " '" + path.string() + "'",
      &status);
  EXPECT_EQ(status, 0);
  return text;
}

TEST(SafetensorsPeer, WhatThePackageWritesIsRead) {
  if (!has_peer()) GTEST_SKIP() << "install python3-safetensors to run this";
  const TempDir dir;
  peer("write", dir / "m.safetensors");
  const auto file = SafetensorsFile::open(dir / "m.safetensors");
  ASSERT_TRUE(file.has_value()) << file.error().message;
  ASSERT_EQ(file->tensors().size(), 3U);
  const SafetensorsTensor* b = file->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, "F32");
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b->bytes, 24U);
  EXPECT_EQ(file->find("a.weight")->dtype, "BF16");
  EXPECT_EQ(file->find("empty")->bytes, 0U);
  EXPECT_EQ(file->metadata().at("quote"), "a \"b\"");
}

TEST(SafetensorsPeer, ThePackageReadsWhatIsWritten) {
  if (!has_peer()) GTEST_SKIP() << "install python3-safetensors to run this";
  const TempDir dir;
  std::vector<uint8_t> data(24 + 32);
  std::iota(data.begin(), data.end(), uint8_t{0});
  const std::vector<SafetensorsEntry> entries = {{"layer.0 \"x\"", "F32", {3, 2}}, {"blocks", "U8", {32}}};
  auto writer = SafetensorsWriter::create(dir / "m.safetensors", entries, {{"ggml", "Q4_K \n[256]"}}, 4096);
  ASSERT_TRUE(writer.has_value()) << writer.error().message;
  ASSERT_TRUE(writer->append(std::as_bytes(std::span(data).first(13))).has_value());
  ASSERT_TRUE(writer->append(std::as_bytes(std::span(data).subspan(13))).has_value());
  ASSERT_TRUE(writer->finish().has_value());
  EXPECT_EQ(peer("list", dir / "m.safetensors"),
            "blocks U8 [32] fc1716c2d0036cc2\n"
            "layer.0 \"x\" F32 [3,2] 1d64add2a6388367\n"
            "ggml=Q4_K \n[256]\n");
}

}  // namespace
}  // namespace odmoe
